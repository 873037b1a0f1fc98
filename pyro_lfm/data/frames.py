"""DataFrames of either kind as those of pandas, and with their missing cells filled, for mixed tables and imputation."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, cast

import numpy as np
from torch import Tensor

from pyro_lfm.data.files.parquet_rows import ParquetRows
from pyro_lfm.data.opened_rows import comes_from
from pyro_lfm.data.polars_columns import as_pandas
from pyro_lfm.data.schema import Columns

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


def frame_of(data: object) -> pd.DataFrame | None:
    """A DataFrame of pandas or polars, or a parquet file, as one of pandas; None for anything else.

    Raises:
        DataError: a column of polars that pandas cannot model either, such as dates, with the conversion to use.
    """
    if isinstance(data, ParquetRows):
        return data.frame()
    if comes_from(type(data), "polars") and hasattr(data, "columns"):
        return as_pandas(cast("pl.DataFrame", data))
    if not (comes_from(type(data), "pandas") and hasattr(data, "columns")):
        return None
    frame = cast("pd.DataFrame", data)
    dictionaries = [str(dtype).startswith("dictionary<") for dtype in frame.dtypes]
    return frame.apply(without_dictionary) if any(dictionaries) else frame


def without_dictionary(series: pd.Series) -> pd.Series:
    """A column whose labels are a category, where they are a dictionary of Arrow, which loses missing cells."""
    is_dictionary = str(series.dtype).startswith("dictionary<")
    return series.astype(object).astype("category") if is_dictionary else series


def refilled(
    container: pd.DataFrame | pd.Series, columns: Columns, values: Tensor, missing: Tensor
) -> pd.DataFrame | pd.Series:
    """A copy with numbers or labels in the missing cells. All other cells are unchanged, and columns keep their types.

    Args:
        container: a DataFrame with its columns in any order, or a Series.
        columns: the columns of the values, in their order.
        values: the filled rows, (N, D) or (N,).
        missing: True where a cell is missing, in the same shape.
    """
    numbers, gaps = values.cpu().numpy(), missing.cpu().numpy()
    if container.ndim == 1:
        return _column(container, columns, numbers.reshape(-1), gaps.reshape(-1))
    numbers, gaps = numbers.reshape(len(numbers), -1), gaps.reshape(len(gaps), -1)
    filled = container.copy()
    for place, name in enumerate(columns.names or ()):
        if gaps[:, place].any():
            filled[name] = _column(container[name], columns, numbers[:, place], gaps[:, place])
    return filled


def _column(series: pd.Series, columns: Columns, numbers: np.ndarray, gaps: np.ndarray) -> pd.Series:
    """A column with its gaps filled: labels with labels, whole numbers with whole ones."""
    from pandas.api import types

    filled = series.copy()
    if not gaps.any():
        return filled
    cells: np.ndarray | list[Hashable] = numbers[gaps]
    if columns.labels is not None:
        cells = [columns.labels[int(code)] for code in numbers[gaps]]
    elif types.is_bool_dtype(series.dtype):
        cells = numbers[gaps].round().astype(bool)
    elif types.is_integer_dtype(series.dtype) or hasattr(series, "cat"):
        cells = numbers[gaps].round().astype(np.int64)
    else:
        cells = numbers[gaps].astype(series.dtype)
    filled.iloc[np.flatnonzero(gaps)] = cells
    return filled
