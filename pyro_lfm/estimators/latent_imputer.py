"""``LatentImputer``, missing cells of a table filled in by factor models, as an estimator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from pyro_lfm.errors import DataError, DeclarationError, warn
from pyro_lfm.estimators.estimator import LatentEstimator, RandomState, Rows, check_frame
from pyro_lfm.estimators.imputation.factor_mixture import FactorMixture
from pyro_lfm.estimators.imputation.imputed_tables import ArrayTable, Table, frame_table
from pyro_lfm.estimators.imputation.stacking import default_models, fit_stack
from pyro_lfm.shapes import number, whole
from pyro_lfm.warning_kinds import EmptyColumnWarning

if TYPE_CHECKING:
    import pandas as pd

# Rows in one block, and the most numbers that are drawn for them at a time.
_ROWS, _NUMBERS = 1024, 2**24


class LatentImputer(TransformerMixin, LatentEstimator):
    """Fills in missing cells by what the other cells of their row say, with draws and intervals.

    Mixtures of factor analysers are fitted to the table, some on the scale of the columns and some on that of their ranks.
    Known cells are hidden from a first fit, and the mixtures are weighted by how well they predict these (stacking). The
    predictive distribution of a missing cell is the weighted mixture of theirs. Numbers get its mean, labels the most
    probable one. Observed cells stay as they are, to the last bit.

    Tables may be arrays, and pandas or polars DataFrames. Strings, categories, booleans and objects are labels. A DataFrame
    comes back as one, with its dtypes, index and order of columns, if the imputer was fitted to a DataFrame.

    Args:
        model: "auto": a selection that fits the size of the table. "linear": factor analysis alone. A ``FactorMixture``, or
            a list of them to be weighted.
        keep_empty_features: whether a column without any cell at ``fit`` is kept, and filled with 0. By default
            ``transform`` leaves it out, as ``sklearn.impute.SimpleImputer`` does.
        max_rows: the mixtures are fitted to at most so many rows, drawn at random.
        random_state: of the fits, and of ``sample`` and ``interval``.

    Attributes:
        models_: the mixtures in use.
        weights_: their weights, with sum 1.
        n_features_in_: D.
        feature_names_in_: the names of the columns, where they have names.

    Use it for tables of numbers and labels with missing cells, where the error of the filled cells matters too.

    Limits: a cell must be missing for reasons that the observed cells explain. Cells that are missing because they are
    large are filled with values that are too small.

    Source: Ghahramani and Beal (2000) for the mixtures; Breiman (1996) for the weights.

    >>> import numpy as np
    >>> import pyro_lfm as lfm
    >>> rng = np.random.default_rng(0)
    >>> rows = rng.normal(size=(200, 1)) @ np.ones((1, 4)) + 0.2 * rng.normal(size=(200, 4))
    >>> gaps = np.where(rng.random(rows.shape) < 0.2, np.nan, rows)
    >>> imputer = lfm.estimators.LatentImputer(random_state=0).fit(gaps)
    >>> filled = imputer.transform(gaps)
    >>> bool(abs(filled - rows)[np.isnan(gaps)].mean() < 0.3)
    True
    >>> low, high = imputer.interval(gaps, level=0.9)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "model": [StrOptions({"auto", "linear"}), FactorMixture, list, tuple],
        "keep_empty_features": ["boolean"],
        "max_rows": [Interval(Integral, 2, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        model: Literal["auto", "linear"] | FactorMixture | Sequence[FactorMixture] = "auto",
        *,
        keep_empty_features: bool = False,
        max_rows: int = 10_000,
        random_state: RandomState = None,
    ):
        self.model = model
        self.keep_empty_features = keep_empty_features
        self.max_rows = max_rows
        self.random_state = random_state

    def fit(self, X: Rows, y: object = None) -> Self:
        """Fits the mixtures to a table (N, D) in which None, NaN and NA mean missing.

        Args:
            y: ignored.

        Raises:
            DataError, ValueError: a column that holds neither numbers nor labels, infinite numbers, no cell at all.
        """
        self._validate_params()
        table = self._table(X, reset=True)
        self._columns = table.columns()
        codes = table.encode(self._columns)
        groups = self._columns.groups
        known = np.array([bool((~np.isnan(codes[:, group])).any()) for group in groups])
        if not known.any():
            raise DataError("X must have a cell that is not missing; got none")
        if not self.keep_empty_features and not known.all():
            names = getattr(self, "feature_names_in_", np.arange(len(known)))[~known]
            words = ", ".join(map(str, names))
            warn(
                f"columns without any cell are left out: {words}; keep_empty_features=True keeps them",
                EmptyColumnWarning,
            )
        self._kept = known | self.keep_empty_features
        seed = self._seed()
        if len(codes) > self.max_rows:
            codes = codes[np.random.default_rng(seed).choice(len(codes), self.max_rows, replace=False)]
        self._stack = fit_stack(codes, groups, self._models(*codes.shape), seed)
        self.models_ = list(self._stack.models)
        self.weights_ = self._stack.weights
        return self

    def transform(self, X: Rows) -> Any:
        """The table (N, D) with its missing cells filled in, in the container and dtypes of X."""
        table = self._query(X)
        codes = table.encode(self._columns)
        return table.filled(
            self._columns, self._stack.mean(codes) if np.isnan(codes).any() else codes, self._kept
        )

    def sample(self, X: Rows, draws: int = 5, random_state: RandomState = None) -> list[Any]:
        """Multiple imputations: tables like that of ``transform``, with draws in place of missing cells.

        The cells of a row are drawn together, noise included. Analyse each table, and combine the results by Rubin's rules.

        Args:
            draws: the number of tables.
            random_state: of the draws, by default that of the imputer.
        """
        table = self._query(X)
        codes = table.encode(self._columns)
        blocks = [drawn for _, drawn in self._drawn(codes, whole("draws", draws), random_state)]
        whole_tables = np.concatenate(blocks, 1)
        return [table.filled(self._columns, each, self._kept) for each in whole_tables]

    def interval(
        self, X: Rows, level: float = 0.9, draws: int = 200, random_state: RandomState = None
    ) -> tuple[Any, Any]:
        """The lower and upper ends of intervals that hold a missing number with the probability ``level``.

        They are tables like that of ``transform``. An observed cell is its own interval. Labels have no order: both tables
        hold the most probable one.

        Args:
            level: a probability in (0, 1).
            draws: from whose quantiles the ends are computed.
            random_state: of the draws, by default that of the imputer.
        """
        level = number("level", level, least=0.0, above=True)
        if level >= 1:
            raise DeclarationError(f"level must be a probability below 1; got {level!r}")
        table = self._query(X)
        codes = table.encode(self._columns)
        ends = np.stack([codes, codes])
        shares = [(1 - level) / 2, (1 + level) / 2]
        for rows, drawn in self._drawn(codes, whole("draws", draws, least=20), random_state):
            ends[:, rows] = np.quantile(drawn, shares, axis=0)
        if self._columns.labels:
            mean = self._stack.mean(codes)
            for group in self._columns.labels.values():
                ends[:, :, group] = mean[:, group]
        low, high = (table.filled(self._columns, end, self._kept) for end in ends)
        return low, high

    def label_probabilities(self, X: pd.DataFrame) -> dict[Any, pd.DataFrame]:
        """The probability of each label in each row, by column of labels. It is 1 for an observed label."""
        import pandas as pd

        codes = self._query(X).encode(self._columns)
        mean = np.clip(self._stack.mean(codes), 0.0, 1.0)
        result = {}
        for label, group in self._columns.labels.items():
            shares = mean[:, group] + 1e-9
            shares = shares / shares.sum(1, keepdims=True)
            result[label.name] = pd.DataFrame(
                shares, columns=list(label.levels), index=getattr(X, "index", None)
            )
        return result

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """The names of the columns that ``transform`` returns: those of X, without columns that had no cell at ``fit``."""
        check_is_fitted(self)
        return _check_feature_names_in(self, input_features)[self._kept]

    def _models(self, rows: int, codes: int) -> Sequence[FactorMixture]:
        """The mixtures to fit."""
        if self.model == "auto":
            return default_models(rows, codes)
        if self.model == "linear":
            return [FactorMixture()]
        models = [self.model] if isinstance(self.model, FactorMixture) else list(self.model)
        wrong = [each for each in models if not isinstance(each, FactorMixture)]
        if wrong or not models:
            got = repr(wrong[0]) if wrong else "an empty list"
            raise DeclarationError(
                f"model must be a list of FactorMixture(classes, factors, scale); got {got}"
            )
        return models

    def _table(self, X: Rows, *, reset: bool) -> Table:
        """X as a table whose shape and names are checked. After a fit to an array all tables are read as arrays."""
        check_frame(X, labels=True)
        table = frame_table(X)
        if reset:
            self._frames = table is not None
        if table is None or not self._frames:
            return ArrayTable(self._validated(X, sparse=False, reset=reset))
        validate_data(self, X, reset=reset, skip_check_array=True)
        if not len(table.frame) or not table.frame.shape[1]:
            rows, columns = table.frame.shape
            raise DataError(
                f"X must have at least one row and one column; got {rows} rows and {columns} columns"
            )
        return table

    def _query(self, X: Rows) -> Table:
        check_is_fitted(self)
        return self._table(X, reset=False)

    def _drawn(
        self, codes: NDArray[np.float64], draws: int, random_state: RandomState
    ) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Blocks of rows, each with its draws (S, rows, P)."""
        seed = self._seed() if random_state is None else check_random_state(random_state).randint(2**31 - 1)
        generator = torch.Generator().manual_seed(int(seed))
        size = max(1, min(_ROWS, _NUMBERS // (draws * codes.shape[1])))
        for start in range(0, len(codes), size):
            rows = slice(start, start + size)
            yield rows, self._stack.draw(codes[rows], draws, generator)
