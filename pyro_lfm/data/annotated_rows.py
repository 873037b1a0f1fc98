"""The matrix of an AnnData, X or a layer, as rows in memory or in its file, for ``open_block`` and ``lfm.tables.anndata``.

A backed AnnData holds X in its file. A view of it shows some rows and entries, which are read from there too.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np

from pyro_lfm.data.remedies import remedy_for
from pyro_lfm.data.stored_rows import StoredRows, StoredSparseRows
from pyro_lfm.errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_array

# Fetches the rows of a matrix at an index (B,), which may repeat and needs no order, as a dense array (B, D).
Fetch: TypeAlias = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class _RowsInMemory:
    matrix: np.ndarray | csr_array

    def __call__(self, index: np.ndarray) -> np.ndarray:
        rows = self.matrix[index]
        return rows if isinstance(rows, np.ndarray) else rows.toarray()


@dataclass(frozen=True)
class AnnotatedRows:
    """The rows of a matrix of an AnnData, a container of rows.

    Attributes:
        fetch: fetches rows of the matrix of the AnnData itself, or of the one that it is a view of.
        rows: the numbers of the rows in that matrix, (N,).
        entries: the entries of the matrix that count, in their order; None for all.
        names: the names of the entries.
        place: the matrix in words, as in ``adata.layers["counts"]``.
    """

    fetch: Fetch
    rows: np.ndarray
    entries: np.ndarray | None
    names: tuple[Hashable, ...]
    place: str

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), len(self.names)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def chunk(self) -> int | None:
        """The rows of a chunk that the file is read in; None where the matrix is in memory."""
        if isinstance(self.fetch, _RowsInMemory):
            return None
        chunks = getattr(self.fetch.array, "chunks", None) if isinstance(self.fetch, StoredRows) else None
        in_order = len(self.rows) < 2 or int(self.rows[-1] - self.rows[0]) == len(self.rows) - 1
        return chunks[0] if chunks and in_order else 1

    def take(self, index: np.ndarray) -> np.ndarray:
        """The rows at some indices, (B, D)."""
        fetched = self.fetch(self.rows[index])
        return fetched if self.entries is None else fetched[:, self.entries]

    def of(self, entries: np.ndarray) -> AnnotatedRows:
        """The same rows with some of their entries, in another order."""
        kept = entries if self.entries is None else self.entries[entries]
        names = tuple(self.names[place] for place in entries)
        return AnnotatedRows(self.fetch, self.rows, kept, names, self.place)


def is_anndata(data: object) -> TypeGuard[AnnData]:
    """Whether an object has the interface of an AnnData."""
    # Not by hasattr, which would read X.
    return "var_names" in dir(data) and "X" in dir(data)


def annotated_rows(adata: AnnData, layer: str | None = None) -> AnnotatedRows:
    """The rows of X, or of a layer, of an AnnData, which stay where they are.

    Raises:
        DataError: there is no such layer, or X is empty, or its entries are no real numbers.
    """
    rows, entries = None, None
    if layer is None:
        place = "adata.X"
        if getattr(adata, "isbacked", False) and getattr(adata, "is_view", False):
            # AnnData has no public name for what a view shows, and makes no view of a view of a file.
            parent = adata._adata_ref
            rows, entries = np.arange(parent.n_obs)[adata._oidx], np.arange(parent.n_vars)[adata._vidx]
            matrix = parent.X
        else:
            matrix = adata.X
    else:
        place = f"adata.layers[{layer!r}]"
        if layer not in adata.layers:
            known = ", ".join(map(repr, adata.layers)) or "none"
            raise DataError(f"layer must name a layer of adata; got {layer!r}: its layers are {known}")
        matrix = adata.layers[layer]
    if matrix is None:
        first = next(iter(adata.layers), None)
        remedy = "set adata.X" if first is None else f"name a layer, as in layer={first!r}"
        raise DataError(f"{place} must hold the rows; it is empty (None): {remedy}")
    rows = np.arange(matrix.shape[0]) if rows is None else rows
    return AnnotatedRows(_fetch(matrix, place), rows, entries, tuple(adata.var_names), place)


def _fetch(matrix: Any, place: str) -> Fetch:
    """How to fetch rows of a matrix in memory or in a file.

    Raises:
        DataError: its entries are no real numbers.
    """
    if hasattr(matrix, "group") and hasattr(matrix, "format"):
        _check_numbers(matrix.group["data"], place)
        return (
            StoredSparseRows(matrix) if matrix.format == "csr" else _RowsInMemory(matrix.to_memory().tocsr())
        )
    if type(matrix).__module__.partition(".")[0] in ("h5py", "zarr"):
        _check_numbers(matrix, place)
        return StoredRows(matrix)
    array = matrix.tocsr() if hasattr(matrix, "tocsr") else np.asarray(matrix)
    _check_numbers(array, place)
    return _RowsInMemory(array)


def _check_numbers(values: Any, place: str) -> None:
    if values.dtype.kind not in "biuf":
        raise DataError(f"{place} must hold real numbers; got dtype {values.dtype}: {remedy_for(values)}")
