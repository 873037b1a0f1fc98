"""The matrix of an AnnData, X or a layer, as rows in memory or in its file, for ``open_block`` and ``lfm.tables.anndata``.

A backed AnnData holds X in its file. The file's arrays are read here, not through AnnData's own indexing, which some
versions of SciPy break. A sparse matrix by columns (CSC) has no rows to read one by one, so it is converted in memory once.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeGuard

import numpy as np

from pyro_lfm.data.remedies import remedy_for
from pyro_lfm.errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData


class Matrix(Protocol):
    """Rows that can be fetched by index, (B, D) each."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The rows at some indices, which may repeat and need no order."""


@dataclass(frozen=True)
class _InMemory:
    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def take(self, rows: np.ndarray) -> np.ndarray:
        chosen = self.array[rows]
        return chosen.toarray() if hasattr(chosen, "toarray") else np.asarray(chosen)


@dataclass(frozen=True)
class _DenseInFile:
    """A dense matrix in an HDF5 file, whose rows are read in increasing order, each once."""

    dataset: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.dataset.shape

    def take(self, rows: np.ndarray) -> np.ndarray:
        in_order, places = np.unique(rows, return_inverse=True)
        return np.asarray(self.dataset[in_order])[places]


@dataclass(frozen=True)
class _SparseInFile:
    """A sparse matrix by rows (CSR) in a file: its arrays indptr (in memory), indices and data (in the file)."""

    group: Mapping[str, np.ndarray]
    starts: np.ndarray
    shape: tuple[int, ...]

    def take(self, rows: np.ndarray) -> np.ndarray:
        in_order, places = np.unique(rows, return_inverse=True)
        data, columns = self.group["data"], self.group["indices"]
        dense = np.zeros((len(in_order), self.shape[1]), data.dtype)
        # Neighbouring rows are read together.
        runs = np.split(np.arange(len(in_order)), np.flatnonzero(np.diff(in_order) != 1) + 1)
        for run in runs if len(in_order) else ():
            first, last = self.starts[in_order[run[0]]], self.starts[in_order[run[-1]] + 1]
            counts = np.diff(self.starts[in_order[run[0]] : in_order[run[-1]] + 2])
            dense[np.repeat(run, counts), columns[first:last]] = data[first:last]
        return dense[places]


@dataclass(frozen=True)
class AnnotatedRows:
    """The rows of a matrix of an AnnData, a container of rows.

    Attributes:
        matrix: the matrix of the AnnData itself, or of the one that it is a view of.
        rows, entries: the rows and entries of the matrix that count, in their order; None for all.
        names: the names of the entries.
        place: the matrix in words, as in ``adata.layers["counts"]``.
    """

    matrix: Matrix
    rows: np.ndarray | None
    entries: np.ndarray | None
    names: tuple[Hashable, ...]
    place: str

    @property
    def shape(self) -> tuple[int, int]:
        rows = self.matrix.shape[0] if self.rows is None else len(self.rows)
        return rows, len(self.names)

    def __len__(self) -> int:
        return self.shape[0]

    def take(self, index: np.ndarray) -> np.ndarray:
        """The rows at some indices, (B, D)."""
        fetched = self.matrix.take(index if self.rows is None else self.rows[index])
        return fetched if self.entries is None else fetched[:, self.entries]

    def of(self, entries: np.ndarray) -> AnnotatedRows:
        """The same rows with some of their entries, in another order."""
        kept = entries if self.entries is None else self.entries[entries]
        names = tuple(self.names[place] for place in entries)
        return AnnotatedRows(self.matrix, self.rows, kept, names, self.place)


def is_anndata(data: object) -> TypeGuard[AnnData]:
    """Whether an object has the interface of an AnnData."""
    # Not by hasattr, which would read X.
    return "var_names" in dir(data) and "X" in dir(data)


def annotated_rows(adata: AnnData, layer: str | None = None) -> AnnotatedRows:
    """The rows of X, or of a layer, of an AnnData, which stay where they are.

    Raises:
        DataError: there is no such layer, or X is empty, or its entries are no real numbers.
    """
    names = tuple(adata.var_names)
    if layer is None:
        place = "adata.X"
        parent, rows, entries = _parent(adata)
        matrix = adata.X if parent is None else parent.X
    else:
        place = f"adata.layers[{layer!r}]"
        if layer not in adata.layers:
            known = ", ".join(map(repr, adata.layers)) or "none"
            raise DataError(f"layer must name a layer of adata; got {layer!r}: its layers are {known}")
        rows, entries, matrix = None, None, adata.layers[layer]
    if matrix is None:
        layers = ", ".join(map(repr, adata.layers))
        remedy = f"name a layer, as in layer={next(iter(adata.layers))!r}" if layers else "set adata.X"
        raise DataError(f"{place} must hold the rows; it is empty (None): {remedy}")
    return AnnotatedRows(_opened(matrix, place), rows, entries, names, place)


def _parent(adata: AnnData) -> tuple[AnnData | None, np.ndarray | None, np.ndarray | None]:
    """The backed AnnData that an AnnData is a view of, with the view's rows and entries; None for all others.

    AnnData has no public name for these, and takes no view of a view of a file.
    """
    if not (getattr(adata, "isbacked", False) and getattr(adata, "is_view", False)):
        return None, None, None
    parent = adata._adata_ref
    return parent, np.arange(parent.n_obs)[adata._oidx], np.arange(parent.n_vars)[adata._vidx]


def _opened(matrix: object, place: str) -> Matrix:
    """A matrix in memory or in a file, checked to hold real numbers."""
    if hasattr(matrix, "group") and hasattr(matrix, "format"):
        return _sparse_in_file(matrix, place)
    if type(matrix).__module__.partition(".")[0] == "h5py":
        _check_numbers(matrix, place)
        return _DenseInFile(matrix)  # type: ignore[arg-type]
    array = matrix.tocsr() if hasattr(matrix, "tocsr") else np.asarray(matrix)
    _check_numbers(array, place)
    return _InMemory(array)


def _sparse_in_file(matrix: object, place: str) -> Matrix:
    group, shape = matrix.group, tuple(matrix.shape)  # type: ignore[attr-defined]
    _check_numbers(group["data"], place)
    starts = np.asarray(group["indptr"][:])
    if matrix.format == "csr":  # type: ignore[attr-defined]
        return _SparseInFile(group, starts, shape)
    from scipy.sparse import csc_matrix

    columns = csc_matrix((group["data"][:], group["indices"][:], starts), shape)
    return _InMemory(columns.tocsr())


def _check_numbers(values: object, place: str) -> None:
    dtype = values.dtype  # type: ignore[attr-defined]
    if dtype.kind not in "biuf":
        raise DataError(f"{place} must hold real numbers; got dtype {dtype}: {remedy_for(values)}")
