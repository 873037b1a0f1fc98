"""Tables in the containers that people have: arrays, and pandas and polars DataFrames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pyro_lfm.errors import DataError
from pyro_lfm.estimators.imputation.columns import Columns
from pyro_lfm.estimators.imputation.scales import Numbers

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


class Table(Protocol):
    """A table of the user, which becomes codes, and codes that become such a table."""

    def columns(self) -> Columns:
        """The kinds of its columns."""

    def encode(self, columns: Columns) -> Numbers:
        """Its codes (N, P), NaN where a cell is missing."""

    def filled(self, columns: Columns, codes: Numbers, kept: NDArray[np.bool_]) -> Any:
        """The kept columns, with imputed cells in place of the missing ones."""


@dataclass(frozen=True, eq=False)
class ArrayTable:
    """Numbers (N, D), float32 or float64."""

    rows: NDArray[np.floating[Any]]

    def columns(self) -> Columns:
        return Columns.of_numbers(self.rows.shape[1])

    def encode(self, columns: Columns) -> Numbers:
        if columns.labels:
            raise DataError(
                f"X must be a DataFrame, as in fit, since it has columns of labels: {', '.join(map(str, columns.labels))}; "
                "got an array"
            )
        return self.rows.astype(np.float64)

    def filled(self, columns: Columns, codes: Numbers, kept: NDArray[np.bool_]) -> Any:
        return np.where(np.isnan(self.rows), codes.astype(self.rows.dtype), self.rows)[:, kept]


@dataclass(frozen=True, eq=False)
class PandasTable:
    """A pandas DataFrame."""

    frame: pd.DataFrame

    def columns(self) -> Columns:
        return Columns.of(self.frame)

    def encode(self, columns: Columns) -> Numbers:
        return columns.encode(self.frame)

    def filled(self, columns: Columns, codes: Numbers, kept: NDArray[np.bool_]) -> Any:
        return columns.filled(self.frame, codes).loc[:, kept]


@dataclass(frozen=True, eq=False)
class PolarsTable:
    """A polars DataFrame, read through pandas."""

    frame: pl.DataFrame

    def columns(self) -> Columns:
        return Columns.of(self._pandas())

    def encode(self, columns: Columns) -> Numbers:
        return columns.encode(self._pandas())

    def filled(self, columns: Columns, codes: Numbers, kept: NDArray[np.bool_]) -> Any:
        filled = columns.filled(self._pandas(), codes)
        out = []
        for k, series in enumerate(self.frame.get_columns()):
            if not kept[k]:
                continue
            missing = filled.iloc[:, k].to_numpy()[self._gaps(series)]
            if len(missing):
                series = series.scatter(np.flatnonzero(self._gaps(series)), missing.tolist())
            out.append(series)
        return self.frame.select(out)

    @staticmethod
    def _gaps(series: pl.Series) -> NDArray[np.bool_]:
        gaps = series.is_null()
        if series.dtype.is_float():
            gaps = gaps | series.is_nan().fill_null(True)
        return gaps.to_numpy()

    def _pandas(self) -> pd.DataFrame:
        import pandas as pd

        columns = {}
        for series in self.frame.get_columns():
            if series.dtype.is_numeric():
                numbers = series.cast(float).fill_null(float("nan")).to_numpy()
                whole = series.dtype.is_integer()
                columns[series.name] = pd.array(numbers, dtype="Int64" if whole else "float64")
            elif series.dtype.is_temporal():
                columns[series.name] = pd.Series(series.to_list()).astype("datetime64[ns]")
            else:
                columns[series.name] = pd.Series(series.to_list(), dtype=object)
        return pd.DataFrame(columns)


def frame_table(X: object) -> PandasTable | PolarsTable | None:
    """X as a table, if it is a DataFrame."""
    library = type(X).__module__.partition(".")[0]
    if type(X).__name__ == "DataFrame" and library in ("pandas", "polars"):
        return PandasTable(X) if library == "pandas" else PolarsTable(X)  # type: ignore[arg-type]
    return None
