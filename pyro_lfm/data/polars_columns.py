"""Columns of polars as arrays and as columns of pandas, without pyarrow; for containers and mixed tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from pyro_lfm.data.label_codes import Labels
from pyro_lfm.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

# Lines of code that make numbers of a column, by the name of its type.
_CONVERSIONS = {
    "Date": "(pl.col({0}) - pl.col({0}).min()) / pl.duration(days=1)",
    "Datetime": "(pl.col({0}) - pl.col({0}).min()) / pl.duration(days=1)",
    "Duration": "pl.col({0}) / pl.duration(days=1)",
    "Time": "pl.col({0}).cast(pl.Int64) / 3.6e12",
}
_UNITS = {
    "Date": "the days since the first",
    "Datetime": "the days since the first",
    "Time": "the hours of the day",
}
_LABELS = ("String", "Categorical", "Enum")


def column_of(series: pl.Series) -> np.ndarray:
    """A column (N,) as an array: numbers with NaN where they are null, or labels with None.

    Raises:
        DataError: times, lists, structures and objects, with the conversion to use.
    """
    kind = _kind(series)
    if kind == "Decimal":
        series = series.cast(float)
    elif kind == "Boolean" and series.null_count():
        series = series.cast(float)
    elif kind == "Null":
        return np.full(len(series), np.nan)
    elif not series.dtype.is_numeric() and kind not in (*_LABELS, "Boolean"):
        raise DataError(
            f"column {series.name!r} must hold numbers or labels; got {kind}: {_conversion(series)}"
        )
    return np.asarray(series.to_numpy())


def labels_of_enum(series: pl.Series) -> Labels | None:
    """The labels of an Enum, in its order; None for another type."""
    if _kind(series) != "Enum":
        return None
    codes = series.to_physical().fill_null(0).cast(int).to_numpy()
    return Labels(np.where(series.is_null().to_numpy(), -1, codes), tuple(_categories(series)), True)


def as_pandas(frame: pl.DataFrame) -> pd.DataFrame:
    """A frame of pandas: whole numbers and booleans stay such where others are null, an Enum is an ordered category.

    Raises:
        DataError: a column of times, lists, structures or objects.
    """
    import pandas as pd

    return pd.DataFrame({name: _pandas_column(frame[name]) for name in frame.columns})


def _pandas_column(series: pl.Series) -> pd.Series:
    import pandas as pd

    kind, gaps = _kind(series), bool(series.null_count())
    values = column_of(series)
    if kind in ("Categorical", "Enum"):
        return pd.Series(pd.Categorical(series.to_list(), _categories(series), ordered=kind == "Enum"))
    if kind == "Boolean" and gaps:
        return pd.Series(series.to_list(), dtype="boolean")
    if series.dtype.is_integer() and gaps:
        return pd.Series(series.to_list(), dtype="UInt64" if series.dtype.is_unsigned_integer() else "Int64")
    return pd.Series(values).infer_objects() if kind == "String" else pd.Series(values)


def _categories(series: pl.Series) -> list[str]:
    """The labels of an Enum in its order, or those that a Categorical has, sorted."""
    if _kind(series) == "Enum":
        return list(cast("pl.Enum", series.dtype).categories)
    return sorted(set(series.drop_nulls().to_list()))


def _kind(series: pl.Series) -> str:
    return series.dtype.base_type().__name__


def _conversion(series: pl.Series) -> str:
    kind = _kind(series)
    if kind not in _CONVERSIONS:
        return f"leave it out, as frame = frame.drop({series.name!r}) does, or make numbers of it"
    unit = _UNITS.get(kind, "numbers of days")
    return f"give {unit}: frame = frame.with_columns({_CONVERSIONS[kind].format(repr(series.name))})"
