"""The containers that rows may come in: their shape, the names of columns, and how to fetch some rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

from pyro_lfm.data.annotated_rows import AnnotatedRows, annotated_rows, is_anndata
from pyro_lfm.data.datasets import Labelled
from pyro_lfm.data.label_codes import Labels, labels_of
from pyro_lfm.data.pictures.scenes import Scenes
from pyro_lfm.data.remedies import remedy_for
from pyro_lfm.errors import DataError, ShapeError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    from anndata import AnnData
    from scipy.sparse import sparray, spmatrix

    # The rows of one name. Lists of numbers or of rows are sequences.
    Container: TypeAlias = (
        np.ndarray
        | Sequence[object]
        | Tensor
        | Labelled
        | Scenes
        | pd.DataFrame
        | pd.Series
        | pl.DataFrame
        | pl.Series
        | AnnData
        | AnnotatedRows
        | sparray
        | spmatrix
    )

KINDS = "a NumPy array, tensor, DataFrame, sparse matrix, list of rows or torch Dataset"
Fetch = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Block:
    """The rows of one name in their container.

    Attributes:
        shape: (N, ...).
        fetch: gives the rows at indices (B,), in their own type; None for labels.
        names: the names of the columns; None if the container has none.
        labels: the labels of a column that holds no numbers.
        whole: all rows as a tensor that shares their memory; None if torch cannot read it.
        container: the pandas object that holds the rows; None for other containers.
    """

    shape: torch.Size
    fetch: Fetch | None
    names: tuple[Hashable, ...] | None = None
    labels: Labels | None = None
    whole: Tensor | None = None
    container: pd.DataFrame | pd.Series | None = None


def open_block(data: Container | None, name: str, labelled: bool = False) -> Block:
    """The rows in a container.

    Args:
        labelled: whether a single column may hold labels in place of numbers.

    Raises:
        DataError, ShapeError: another container, or entries that are no numbers.
    """
    if isinstance(data, Labelled | Scenes):
        return _tensor(data.x, name)
    if isinstance(data, Tensor):
        return _tensor(data, name)
    if is_anndata(data):
        data = annotated_rows(data)
    if isinstance(data, AnnotatedRows):
        return Block(torch.Size(data.shape), _OfAnnData(data), data.names)
    if comes_from(type(data), "pandas") and hasattr(data, "iloc"):
        return _pandas(data, name, labelled)
    if comes_from(type(data), "polars") and hasattr(data, "to_numpy"):
        return _polars(data, name, labelled)
    if comes_from(type(data), "scipy") and hasattr(data, "tocsr"):
        return _sparse(data, name)
    if isinstance(data, list | tuple) or hasattr(data, "__array__"):
        return _array(
            data if isinstance(data, np.ndarray) else listed(cast(Sequence[object], data), name),
            name,
            labelled,
        )
    raise DataError(f"{name} must be {KINDS}; got {'None' if data is None else f'a {type(data).__name__}'}")


@dataclass(frozen=True)
class _TensorRows:
    tensor: Tensor

    def __call__(self, index: Tensor) -> Tensor:
        return self.tensor[index.to(self.tensor.device)]


@dataclass(frozen=True)
class _ArrayRows:
    array: np.ndarray

    def __call__(self, index: Tensor) -> Tensor:
        return from_numpy(self.array[index.numpy()])


@dataclass(frozen=True)
class _SparseRows:
    matrix: sparray

    def __call__(self, index: Tensor) -> Tensor:
        return from_numpy(self.matrix[index.numpy()].toarray())


@dataclass(frozen=True)
class _OfAnnData:
    rows: AnnotatedRows

    def __call__(self, index: Tensor) -> Tensor:
        return from_numpy(self.rows.take(index.numpy()))


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


@dataclass(frozen=True)
class InOrder:
    """Fetches rows, and puts their columns in another order."""

    rows: Fetch
    order: list[int]

    def __call__(self, index: Tensor) -> Tensor:
        return self.rows(index)[:, self.order]


def _tensor(tensor: Tensor, name: str) -> Block:
    if tensor.layout != torch.strided or tensor.is_nested:
        raise DataError(f"{name} must be a dense tensor; got layout {tensor.layout}: give {name}.to_dense()")
    check_numeric(tensor, name)
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.device.type == "cpu"
    tensor = tensor.detach()
    return Block(tensor.shape, _TensorRows(tensor), whole=tensor if plain else None)


def _array(array: np.ndarray, name: str, labelled: bool) -> Block:
    if array.dtype.names:
        return _side_by_side({field: array[field] for field in array.dtype.names}, name, labelled)
    if labelled and array.dtype.kind in "OUS" and array.ndim in (1, 2) and array.size == len(array):
        return Block(torch.Size(array.shape), None, labels=labels_of(array.ravel().tolist()))
    check_numeric(array, name)
    return Block(torch.Size(array.shape), _ArrayRows(array), whole=_in_memory(array))


def _side_by_side(columns: dict[str, np.ndarray], name: str, labelled: bool) -> Block:
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


def _polars(data: pl.DataFrame | pl.Series, name: str, labelled: bool) -> Block:
    if hasattr(data, "columns"):
        return _side_by_side({c: np.asarray(data[c].to_numpy()) for c in data.columns}, name, labelled)
    inner = _array(np.asarray(data.to_numpy()), name, labelled)
    return Block(inner.shape, inner.fetch, (data.name,) if data.name else None, inner.labels)


def _pandas(frame: pd.DataFrame | pd.Series, name: str, labelled: bool) -> Block:
    from pandas import CategoricalDtype
    from pandas.api import types

    single = frame.ndim == 1
    series = [frame] if single else [frame.iloc[:, k] for k in range(frame.shape[1])]
    names = None if single and frame.name is None else (frame.name,) if single else tuple(frame.columns)
    if labelled and len(series) == 1:
        (column,) = series
        if isinstance(column.dtype, CategoricalDtype):
            labels = Labels(
                column.cat.codes.to_numpy(np.int64), tuple(column.cat.categories), bool(column.cat.ordered)
            )
            return Block(torch.Size(frame.shape), None, names, labels, container=frame)
        if types.is_object_dtype(column.dtype) or types.is_string_dtype(column.dtype):
            labels = labels_of(column.tolist())
            return Block(torch.Size(frame.shape), None, names, labels, container=frame)
    for column in series:
        if not types.is_numeric_dtype(column.dtype) or types.is_complex_dtype(column.dtype):
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


def _sparse(matrix: sparray | spmatrix, name: str) -> Block:
    check_numeric(matrix, name)
    # The one sparse layout whose rows are cheap to fetch. A matrix in this layout is not copied.
    matrix = matrix.tocsr()
    return Block(torch.Size(matrix.shape), _SparseRows(matrix))


def listed(data: np.ndarray | Sequence[object], name: str) -> np.ndarray:
    """A list of rows as an array."""
    try:
        array = np.asarray(data)
    except ValueError:
        raise ShapeError(
            f"{name} must have rows of one shape; got a {type(data).__name__} of {len(data)} items of different shapes: "
            "pad short rows with nan (missing), and give several arrays as {name: array}"
        ) from None
    if array.dtype.kind == "O" and isinstance(data, list | tuple):
        # None among numbers means missing.
        flat = array.ravel().tolist()
        if any(value is None for value in flat) and all(
            value is None or (isinstance(value, int | float) and not isinstance(value, bool))
            for value in flat
        ):
            return array.astype(np.float64)
    return array


def check_numeric(values: np.ndarray | Tensor | sparray, name: str, column: Hashable = None) -> None:
    """Raises DataError if the entries are no real numbers."""
    dtype = values.dtype
    numeric = not dtype.is_complex if isinstance(dtype, torch.dtype) else dtype.kind in "biuf"
    if not numeric:
        where = "" if column is None else f" in column {column!r}"
        raise DataError(f"{name} must hold real numbers; got dtype {dtype}{where}: {remedy_for(values)}")


def from_numpy(rows: np.ndarray) -> Tensor:
    """Rows as a tensor: whole numbers in int64 if they fit, float32 and uint8 unchanged, all others in float64."""
    if isinstance(rows, np.ma.MaskedArray):
        rows = np.ma.filled(rows.astype(np.float64), np.nan)
    dtype: np.dtype[Any] = np.dtype(np.float64)
    if rows.dtype in (np.float32, np.uint8):
        dtype = rows.dtype.newbyteorder("=")
    elif rows.dtype.kind in "iu" and not (
        rows.dtype.itemsize == 8 and rows.dtype.kind == "u" and _too_large(rows)
    ):
        dtype = np.dtype(np.int64)
    return torch.from_numpy(np.require(rows, dtype, ["C", "W", "E"]))  # torch takes no other strides


def _too_large(rows: np.ndarray) -> bool:
    return bool(rows.size) and int(rows.max()) >= 2**63


def _in_memory(data: np.ndarray) -> Tensor | None:
    """A tensor that shares the memory of an array; None if torch cannot read it."""
    if type(data) not in (np.ndarray, np.memmap) or data.dtype not in (np.float32, np.float64, np.uint8):
        return None
    # Torch has the native byte order only, and forward strides of whole entries.
    if not data.dtype.isnative or any(step < 0 or step % data.itemsize for step in data.strides):
        return None
    with warnings.catch_warnings():
        # Torch warns of read-only arrays, but nothing here writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(data.view(np.ndarray))


def comes_from(kind: type, package: str) -> bool:
    """Whether a class belongs to a package, which is not imported for it."""
    return any(base.__module__.partition(".")[0] == package for base in kind.__mro__)
