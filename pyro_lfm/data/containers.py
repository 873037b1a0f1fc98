"""The containers that rows may come in: their shape, the names of columns, and how to fetch some rows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

from pyro_lfm.data.annotated_rows import AnnotatedRows, annotated_rows, is_anndata
from pyro_lfm.data.binarized import Binarized
from pyro_lfm.data.datasets import Labelled
from pyro_lfm.data.files.parquet_rows import ParquetRows
from pyro_lfm.data.files.picture_folder import PictureFolder
from pyro_lfm.data.frame_blocks import of_pandas, of_polars, side_by_side
from pyro_lfm.data.label_codes import labels_of
from pyro_lfm.data.opened_rows import Block, Stored, check_numeric, comes_from, from_numpy
from pyro_lfm.data.pictures.scenes import Scenes
from pyro_lfm.data.stored_rows import StoredRows, StoredSparseRows
from pyro_lfm.errors import DataError, ShapeError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    from anndata import AnnData
    from scipy.sparse import sparray, spmatrix

    from pyro_lfm.data.stored_rows import SparseDataset, StoredArray

    # The rows of one name. Lists of numbers or of rows are sequences.
    Container: TypeAlias = (
        np.ndarray
        | Sequence[object]
        | Tensor
        | Labelled
        | Scenes
        | Binarized
        | pd.DataFrame
        | pd.Series
        | pl.DataFrame
        | pl.Series
        | AnnData
        | AnnotatedRows
        | sparray
        | spmatrix
        | StoredArray
        | SparseDataset
        | PictureFolder
        | ParquetRows
    )

KINDS = "a NumPy array, tensor, DataFrame, sparse matrix, list of rows or torch Dataset"


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
    if isinstance(data, Binarized):
        return Block(data.shape, data.read)
    if comes_from(type(data), "pandas") and hasattr(data, "iloc"):
        return of_pandas(data, name, labelled)
    if comes_from(type(data), "polars") and hasattr(data, "to_numpy"):
        return of_polars(cast("pl.DataFrame | pl.Series", data), name, labelled)
    if is_anndata(data):
        data = annotated_rows(data)
    if isinstance(data, AnnotatedRows):
        stored = None if data.chunk is None else Stored(data.chunk)
        return Block(torch.Size(data.shape), _OfAnnData(data), data.names, stored=stored)
    if isinstance(data, PictureFolder):
        return Block(torch.Size((len(data), *data.shape)), _Pictures(data), stored=Stored(apart=True))
    if isinstance(data, ParquetRows):
        starts = Stored(starts=torch.tensor(data.starts))
        return Block(torch.Size(data.shape), _OfParquet(data), data.names, stored=starts)
    if comes_from(type(data), "h5py") or comes_from(type(data), "zarr"):
        return _stored(cast("StoredArray", data), name)
    if comes_from(type(data), "anndata") and hasattr(data, "group"):
        return _stored_sparse(cast("SparseDataset", data), name)
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
class _FromDisk:
    """Rows that are read from the disk when they are fetched."""

    rows: StoredRows | StoredSparseRows

    def __call__(self, index: Tensor) -> Tensor:
        return from_numpy(self.rows(index.numpy()))


@dataclass(frozen=True)
class _OfAnnData:
    rows: AnnotatedRows

    def __call__(self, index: Tensor) -> Tensor:
        return from_numpy(self.rows.take(index.numpy()))


@dataclass(frozen=True)
class _Pictures:
    folder: PictureFolder

    def __call__(self, index: Tensor) -> Tensor:
        return torch.from_numpy(self.folder[index.numpy()])


@dataclass(frozen=True)
class _OfParquet:
    rows: ParquetRows

    def __call__(self, index: Tensor) -> Tensor:
        return from_numpy(self.rows[index.numpy()])


def _tensor(tensor: Tensor, name: str) -> Block:
    if tensor.layout != torch.strided or tensor.is_nested:
        raise DataError(f"{name} must be a dense tensor; got layout {tensor.layout}: give {name}.to_dense()")
    check_numeric(tensor, name)
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.device.type == "cpu"
    tensor = tensor.detach()
    return Block(tensor.shape, _TensorRows(tensor), whole=tensor if plain else None)


def _array(array: np.ndarray, name: str, labelled: bool) -> Block:
    if array.dtype.names:
        return side_by_side({field: array[field] for field in array.dtype.names}, name, labelled)
    if labelled and array.dtype.kind in "OUS" and array.ndim in (1, 2) and array.size == len(array):
        return Block(torch.Size(array.shape), None, labels=labels_of(array.ravel().tolist()))
    check_numeric(array, name)
    # A copy of a memory map is of its class too, but has no file.
    stored = Stored() if isinstance(array, np.memmap) and array.filename is not None else None
    return Block(torch.Size(array.shape), _ArrayRows(array), whole=_in_memory(array), stored=stored)


def _sparse(matrix: sparray | spmatrix, name: str) -> Block:
    check_numeric(matrix, name)
    # The one sparse layout whose rows are cheap to fetch. A matrix in this layout is not copied.
    matrix = matrix.tocsr()
    return Block(torch.Size(matrix.shape), _SparseRows(matrix))


def _stored(array: StoredArray, name: str) -> Block:
    """An array of HDF5 or zarr."""
    if not hasattr(array, "dtype") or not hasattr(array, "shape"):
        raise DataError(
            f"{name} must be one array; got a {type(array).__name__} of several: choose one by its name, as in "
            'group["X"]'
        )
    check_numeric(array, name)
    chunk = (getattr(array, "chunks", None) or (1,))[0]
    return Block(torch.Size(array.shape), _FromDisk(StoredRows(array)), stored=Stored(chunk))


def _stored_sparse(matrix: SparseDataset, name: str) -> Block:
    """A sparse matrix of AnnData on the disk. One by columns is read whole, as its rows cannot be fetched."""
    if matrix.format != "csr":
        return _sparse(matrix.to_memory(), name)
    return Block(torch.Size(matrix.shape), _FromDisk(StoredSparseRows(matrix)), stored=Stored())


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
