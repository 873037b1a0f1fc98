"""Fetches rows of arrays that stay on the disk: HDF5, zarr, and the sparse matrices of AnnData in either; for containers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array


class StoredArray(Protocol):
    """An array of h5py or zarr."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __getitem__(self, index: Any) -> Any: ...


class SparseDataset(Protocol):
    """A sparse matrix of AnnData on the disk, whose parts are the arrays data, indices and indptr of a group."""

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def format(self) -> str: ...

    @property
    def group(self) -> Mapping[str, StoredArray]: ...

    def to_memory(self) -> csr_array: ...


@dataclass(frozen=True)
class StoredRows:
    """Rows of a dense array.

    Attributes:
        array: (N, ...), of h5py or zarr.
    """

    array: StoredArray

    def __call__(self, index: np.ndarray) -> np.ndarray:
        """The rows at an index (B,), which may repeat and need no order; HDF5 wants neither."""
        wanted, place = np.unique(index, return_inverse=True)
        if not len(wanted):
            return np.empty((0, *self.array.shape[1:]), self.array.dtype)
        if wanted[-1] - wanted[0] + 1 == len(wanted):  # a slice is read at once
            rows = self.array[int(wanted[0]) : int(wanted[-1]) + 1]
        else:
            rows = getattr(self.array, "oindex", self.array)[wanted]  # zarr has an index of its own for rows
        return np.asarray(rows)[place]


class StoredSparseRows:
    """Rows of a sparse matrix in CSR, as dense rows.

    Args:
        matrix: (N, D), of AnnData.
    """

    def __init__(self, matrix: SparseDataset):
        self.shape, self.group = matrix.shape, matrix.group
        self.starts = np.asarray(self.group["indptr"][:])

    def __call__(self, index: np.ndarray) -> np.ndarray:
        wanted, place = np.unique(index, return_inverse=True)
        rows = np.zeros((len(wanted), self.shape[1]), self.group["data"].dtype)
        for first, last in _runs(wanted):
            begin, end = self.starts[wanted[first]], self.starts[wanted[last] + 1]
            lengths = np.diff(self.starts[wanted[first] : wanted[last] + 2])
            which = np.repeat(np.arange(first, last + 1), lengths)
            columns = np.asarray(self.group["indices"][begin:end])
            np.add.at(rows, (which, columns), np.asarray(self.group["data"][begin:end]))
        return rows[place]


def _runs(index: np.ndarray) -> list[tuple[int, int]]:
    """The first and last place of each run of consecutive numbers.

    >>> _runs(np.array([2, 3, 4, 9]))
    [(0, 2), (3, 3)]
    """
    breaks = np.flatnonzero(np.diff(index) != 1)
    firsts, lasts = [0, *(breaks + 1).tolist()], [*breaks.tolist(), len(index) - 1]
    return list(zip(firsts, lasts, strict=True)) if len(index) else []
