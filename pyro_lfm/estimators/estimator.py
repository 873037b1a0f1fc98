"""``LatentEstimator``, the base of all estimators: rows in any container, checked parameters, seeds, fits without rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from pyro_lfm.data.remedies import remedy_for_text
from pyro_lfm.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    from scipy.sparse import sparray, spmatrix

# Rows as users have them.
Rows: TypeAlias = "ArrayLike | pd.DataFrame | pl.DataFrame | sparray | spmatrix"
# Whatever sklearn.utils.check_random_state takes.
RandomState: TypeAlias = int | np.random.RandomState | None
# Rows and results, float32 or float64.
Array: TypeAlias = NDArray[np.floating[Any]]

# Rows that are worked on at a time.
BLOCK = 4096


class LatentEstimator(BaseEstimator):
    """What all estimators share.

    Rows may be arrays, pandas and polars DataFrames, nullable types included, and sparse matrices. NaN means missing. The
    floating type of the rows, float32 or float64, is that of the results; other numbers are read as float64. No row is kept.

    A subclass gives the constraints of its parameters in ``_parameter_constraints``, as scikit-learn does, and begins its
    ``fit`` with ``_rows_to_fit``. Its other methods get their rows from ``_rows``.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        if tags.transformer_tags is not None:
            tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _rows_to_fit(self, X: Rows, *, sparse: bool = False, least: int = 2) -> Array:
        """Checks the parameters, and gives the rows (N, D) to fit. Their number and names of columns are remembered.

        Args:
            sparse: whether a sparse matrix is given as a CSR array; by default it becomes an array.
            least: the smallest number of rows.

        Raises:
            InvalidParameterError: a parameter that is out of its range. DataError: a column without any entry.
        """
        self._validate_params()
        rows = self._validated(X, sparse=sparse, reset=True, ensure_min_samples=least)
        self._check_columns(rows)
        return rows

    def _check_columns(self, rows: Array) -> None:
        """Raises DataError if a column has no entry."""
        empty = [k for k, column in enumerate(observed_entries(rows)) if not column]
        if empty:
            names = getattr(self, "feature_names_in_", np.arange(rows.shape[1]))
            raise DataError(
                f"each column of X must have an entry that is not missing; got none in {_listed(names[empty])}: drop such "
                "columns"
            )

    def _rows(self, X: Rows, *, sparse: bool = False) -> Array:
        """The rows (N, D) of a query, with the columns that were fitted.

        Raises:
            NotFittedError: before ``fit``. ValueError: other columns.
        """
        check_is_fitted(self)
        return self._validated(X, sparse=sparse, reset=False)

    def _validated(self, X: Rows, *, sparse: bool, reset: bool, ensure_min_samples: int = 1) -> Array:
        check_frame(X)
        rows = validate_data(
            self,
            X,
            reset=reset,
            accept_sparse="csr" if self.__sklearn_tags__().input_tags.sparse else False,
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
            ensure_min_samples=ensure_min_samples,
        )
        return rows.toarray() if hasattr(rows, "toarray") and not sparse else rows

    def _seed(self) -> int:
        """A seed from ``random_state``: the same at every call if that is a number."""
        return int(check_random_state(self.random_state).randint(2**31 - 1))


class LatentTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, LatentEstimator):
    """An estimator that transforms rows to the posterior means of their factors.

    A subclass has ``_n_features_out``, the number of factors.
    """


def check_frame(X: object, labels: bool = False) -> None:
    """Checks the columns of a DataFrame, if X is one of pandas.

    Args:
        labels: whether columns may hold labels.

    Raises:
        DataError: two columns of one name, or a column of texts.
    """
    if type(X).__name__ != "DataFrame" or not hasattr(X, "iloc"):
        return
    frame = cast("pd.DataFrame", X)
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise DataError(f"X must have each column once; got {twice!r} twice: rename one of them")
    for name in [] if labels else frame.columns:
        try:
            frame[name].dropna().to_numpy(dtype=float)
        except (TypeError, ValueError):
            remedy = remedy_for_text(frame[name]) or (
                "leave it out, or give a column of 0 and 1 for each label (pandas.get_dummies)"
            )
            raise DataError(
                f"X must hold numbers; got dtype {frame[name].dtype} in column {name!r}: {remedy}"
            ) from None


def blocks(rows: Array) -> Iterator[Array]:
    """The rows in blocks, each an array."""
    for start in range(0, rows.shape[0], BLOCK):
        block = rows[start : start + BLOCK]
        yield block.toarray() if hasattr(block, "toarray") else block


def observed_entries(rows: Array) -> NDArray[np.int64]:
    """The number of observed entries of each column.

    >>> observed_entries(np.array([[1.0, np.nan], [2.0, 3.0]]))
    array([2, 1])
    """
    return np.sum([(~np.isnan(block)).sum(0) for block in blocks(rows)], 0)


def is_complete(rows: Array) -> bool:
    """Whether no entry of the rows is missing."""
    return not any(np.isnan(block).any() for block in blocks(rows))


def _listed(names: NDArray[Any], most: int = 10) -> str:
    words = ", ".join(map(str, names[:most]))
    return f"columns {words}" + f", ... ({len(names)} in all)" * (len(names) > most)
