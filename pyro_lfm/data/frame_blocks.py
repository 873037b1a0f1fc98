"""Opens tables with named columns as blocks of rows: DataFrames of pandas and polars, structured arrays; for containers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from pyro_lfm.data.frames import without_dictionary
from pyro_lfm.data.label_codes import Labels, labels_of
from pyro_lfm.data.opened_rows import Block, Fetch, check_numeric, from_numpy
from pyro_lfm.data.polars_columns import column_of, labels_of_enum
from pyro_lfm.data.remedies import remedy_for
from pyro_lfm.errors import DataError, ShapeError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


@dataclass(frozen=True)
class _FrameRows:
    frame: pd.DataFrame | pd.Series
    dtype: type[np.generic]

    def __call__(self, index: Tensor) -> Tensor:
        rows = self.frame.iloc[index.numpy()]
        if self.dtype in (np.int64, np.float32):
            return from_numpy(rows.to_numpy(dtype=self.dtype))
        return from_numpy(rows.to_numpy(dtype=np.float64, na_value=np.nan))


@dataclass(frozen=True)
class _ColumnRows:
    """Columns, (N,) each, as the entries of rows."""

    columns: tuple[np.ndarray, ...]

    def __call__(self, index: Tensor) -> Tensor:
        rows = [from_numpy(column[index.numpy()]) for column in self.columns]
        whole = all(not each.is_floating_point() for each in rows)
        return torch.stack([each if whole else each.double() for each in rows], 1)


def side_by_side(columns: Mapping[str, np.ndarray], name: str, labelled: bool) -> Block:
    """Named columns of one length, from a structured array or polars."""
    for column, values in columns.items():
        if values.ndim != 1:
            raise ShapeError(
                f"{name} must have one number per row in each column; got shape {values.shape[1:]} in column "
                f"{column!r}: give {name} as an array (N, ...)"
            )
    if labelled and len(columns) == 1:
        ((column, values),) = columns.items()
        if values.dtype.kind in "OUS":
            return Block(torch.Size((len(values), 1)), None, (column,), labels_of(values.tolist()))
    for column, values in columns.items():
        check_numeric(values, name, column)
    rows = len(next(iter(columns.values())))
    return Block(torch.Size((rows, len(columns))), _ColumnRows(tuple(columns.values())), tuple(columns))


def of_polars(data: pl.DataFrame | pl.Series, name: str, labelled: bool) -> Block:
    """A frame or a column of polars."""
    single = not hasattr(data, "columns")
    columns = [cast("pl.Series", data)] if single else cast("pl.DataFrame", data).get_columns()
    shape = torch.Size((len(data),) if single else (len(data), len(columns)))
    if labelled and len(columns) == 1:
        (column,) = columns
        labels = labels_of_enum(column)
        if labels is None and not (column.dtype.is_numeric() or column.dtype.is_temporal()):
            labels = labels_of(column.to_list())
        if labels is not None:
            return Block(shape, None, (column.name,) if column.name or not single else None, labels)
    block = side_by_side({column.name: column_of(column) for column in columns}, name, labelled)
    if not single:
        return block
    assert block.fetch is not None
    return Block(shape, _Flat(block.fetch), (columns[0].name,) if columns[0].name else None)


@dataclass(frozen=True)
class _Flat:
    """Rows of one column as numbers."""

    rows: Fetch

    def __call__(self, index: Tensor) -> Tensor:
        return self.rows(index)[:, 0]


def of_pandas(frame: pd.DataFrame | pd.Series, name: str, labelled: bool) -> Block:
    from pandas import CategoricalDtype
    from pandas.api import types

    single = frame.ndim == 1
    series = [frame] if single else [frame.iloc[:, k] for k in range(frame.shape[1])]
    names = None if single and frame.name is None else (frame.name,) if single else tuple(frame.columns)
    if labelled and len(series) == 1:
        column = without_dictionary(series[0])
        if isinstance(column.dtype, CategoricalDtype):
            labels = Labels(
                column.cat.codes.to_numpy(np.int64), tuple(column.cat.categories), bool(column.cat.ordered)
            )
            return Block(torch.Size(frame.shape), None, names, labels, container=frame)
        if types.is_object_dtype(column.dtype) or types.is_string_dtype(column.dtype):
            labels = labels_of(column.tolist())
            return Block(torch.Size(frame.shape), None, names, labels, container=frame)
    for column in series:
        is_number = types.is_numeric_dtype(column.dtype) or types.is_bool_dtype(column.dtype)
        if not is_number or types.is_complex_dtype(column.dtype):
            where = "" if column.name is None else f" in column {column.name!r}"
            raise DataError(
                f"{name} must hold numbers; got dtype {column.dtype}{where}: {remedy_for(column)}"
            )
    whole = bool(series) and all(types.is_integer_dtype(c.dtype) and not c.hasnans for c in series)
    # Numbers beyond a signed integer are read as floats.
    whole = whole and not any(str(c.dtype).lower() == "uint64" and c.max() >= 2**63 for c in series)
    single_precision = all(c.dtype == np.float32 for c in series)
    dtype: type[np.generic] = np.int64 if whole else np.float32 if single_precision else np.float64
    return Block(torch.Size(frame.shape), _FrameRows(frame, dtype), names, container=frame)
