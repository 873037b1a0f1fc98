"""Columns of ``adata.obs`` as covariates, and the rows of other AnnData by the same labels and scales."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.distributions import constraints

from pyro_lfm.errors import DataError
from pyro_lfm.factors import Covariate
from pyro_lfm.factors.variables import Code

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ObsColumn:
    """A column of ``adata.obs`` that the model reads as a covariate.

    Attributes:
        column: its name in ``adata.obs``.
        factor: the name of its factor.
        levels: the labels in the order of their codes 0, 1, ...; None of a column of numbers.
        loc, scale: mean and standard deviation of numbers, by which networks read them.
    """

    column: Hashable
    factor: str
    levels: tuple[Hashable, ...] | None
    loc: float = 0.0
    scale: float = 1.0

    def covariate(self) -> Covariate:
        """The factor: labels are read one-hot, numbers on the scale of mean 0 and variance 1."""
        if self.levels is not None:
            return Covariate(value=0.0, support=constraints.integer_interval(0, len(self.levels) - 1))
        code = Code(torch.tensor(self.loc), torch.tensor(self.scale))
        return Covariate(value=self.loc).coded(code)  # type: ignore[return-value]

    def codes(self, labels: object) -> np.ndarray:
        """The codes of labels, or the numbers themselves, (N,).

        Raises:
            DataError: a label that was not fitted.
        """
        import pandas as pd

        if self.levels is None:
            return np.asarray(labels, dtype=np.float64)
        codes = pd.Index(self.levels, dtype=object).get_indexer(pd.Index(labels, dtype=object))
        if (codes < 0).any():
            unknown = pd.Index(labels, dtype=object)[codes < 0].unique()
            raise DataError(
                f"adata.obs[{self.column!r}] must hold the categories that were fitted, {_listed(self.levels)}; got "
                f"{_listed(unknown)}: fit again with these cells, or give them a category that was fitted"
            )
        return codes.astype(np.float64)

    def read(self, obs: pd.DataFrame) -> np.ndarray:
        """The codes or numbers of the cells of another AnnData, (N,).

        Raises:
            DataError: the column is lacking, has missing entries, or labels that were not fitted.
        """
        return self.codes(_complete(obs, self.column, self.levels is None))

    def labels(self, codes: np.ndarray) -> np.ndarray:
        """The labels of codes, or the numbers themselves."""
        return codes if self.levels is None else np.array(self.levels, dtype=object)[codes.astype(int)]

    def __str__(self) -> str:
        if self.levels is None:
            return f"numbers, mean {self.loc:.4g}, standard deviation {self.scale:.4g}"
        return f"{len(self.levels)} categories: {_listed(self.levels)}"


def obs_column(obs: pd.DataFrame, column: Hashable, factor: str, labels: bool) -> ObsColumn:
    """A column as a covariate. Numbers stay numbers unless ``labels``; categories that no cell has are left out.

    Raises:
        DataError: the column has missing entries, is constant, or holds neither numbers nor labels.
    """
    from pandas.api import types

    series = obs[column]
    numeric = types.is_numeric_dtype(series.dtype) and not types.is_bool_dtype(series.dtype) and not labels
    values = _complete(obs, column, numeric)
    if numeric:
        spread = float(values.std())
        if spread == 0:
            raise _constant(column, values[0])
        return ObsColumn(column, factor, None, float(values.mean()), spread)
    levels = _levels(series)
    if len(levels) < 2:
        raise _constant(column, levels[0])
    if len(levels) > max(20, len(series) // 2):
        raise DataError(
            f"adata.obs[{column!r}] must hold categories that cells share; got {len(levels)} different ones in "
            f"{len(series)} cells: name a column of batches or groups"
        )
    return ObsColumn(column, factor, levels)


def _levels(series: pd.Series) -> tuple[Hashable, ...]:
    if hasattr(series, "cat"):
        return tuple(series.cat.remove_unused_categories().cat.categories.tolist())
    values = series.unique().tolist()
    try:
        return tuple(sorted(values))
    except TypeError:
        return tuple(values)


def _complete(obs: pd.DataFrame, column: Hashable, numeric: bool) -> np.ndarray:
    """The values of a column, without gaps."""
    if column not in obs.columns:
        raise DataError(
            f"adata.obs must have the column {column!r}, which the model reads; its columns are {_listed(obs.columns)}"
        )
    series = obs[column]
    if series.ndim > 1:
        raise DataError(f"adata.obs must have each column once; got {column!r} twice: rename one of them")
    gaps = series.isna().to_numpy()
    if gaps.any():
        raise DataError(
            f"adata.obs[{column!r}] must be known of every cell; it is missing in {int(gaps.sum())} of {len(gaps)}, the "
            f"first {obs.index[gaps.argmax()]!r}: leave them out, as adata[adata.obs[{column!r}].notna()] does, or give "
            "them a category of their own"
        )
    if not numeric:
        return series.to_numpy(dtype=object)
    try:
        values = series.to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(
            f"adata.obs[{column!r}] must hold numbers, as in the fit; got dtype {series.dtype}"
        ) from None
    if not np.isfinite(values).all():
        raise DataError(
            f"adata.obs[{column!r}] must hold finite numbers; got {values[~np.isfinite(values)][0]}"
        )
    return values


def _constant(column: Hashable, value: object) -> DataError:
    return DataError(
        f"adata.obs[{column!r}] must differ between cells; it is {value!r} in all of them: leave it out"
    )


def _listed(values: object, most: int = 8) -> str:
    shown = [repr(value) for value in values]  # type: ignore[attr-defined]
    return ", ".join(shown[:most]) + (f", ... ({len(shown)} in all)" if len(shown) > most else "")
