"""``CellFile``: the cells of an .h5ad file, for ``lfm.data.shuffle``; its matrices stay on the disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pyro_lfm.data.files.required_package import needed
from pyro_lfm.data.shuffled_files.row_file import PIECE_BYTES, RowFile
from pyro_lfm.errors import DataError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    # Rows of the matrices by their place in the file; "" has the numbers of the rows.
    Cells: TypeAlias = dict[str, np.ndarray | csr_matrix]

# Tables of the rows, which are read whole, and what rows have no part in.
_OF_ROWS, _OTHERS = ("obs", "obsm", "obsp"), ("var", "varm", "varp", "uns")


class SparseRows:
    """The rows of a sparse matrix of a file, of which slices are read.

    Args:
        group: of HDF5, with data, indices and indptr. shape: (N, D).
    """

    def __init__(self, group: Any, shape: tuple[int, int]):
        self.group, self.shape = group, shape
        self.starts = np.asarray(group["indptr"][:])

    def __getitem__(self, rows: slice) -> csr_matrix:
        from scipy.sparse import csr_matrix

        starts = self.starts[rows.start : rows.stop + 1]
        data, indices = (self.group[name][starts[0] : starts[-1]] for name in ("data", "indices"))
        return csr_matrix((data, indices, starts - starts[0]), (len(starts) - 1, self.shape[1]))


class CellFile(RowFile["Cells"]):
    """X, the layers and the raw X in pieces of rows; obs, obsm and obsp are in memory."""

    def __init__(self, path: Path):
        self.anndata = needed("anndata", path)
        import h5py

        self.file = h5py.File(path)
        layers = [f"layers/{name}" for name in self.file.get("layers", ())]
        self.places = [place for place in ("X", *layers, "raw/X") if place in self.file]
        self.matrices = {place: self._matrix(path, place) for place in self.places}
        if not self.matrices:
            raise DataError(
                f"{path} holds no matrix, neither X nor layers: there is nothing to shuffle on the disk"
            )
        self.rows = int(next(iter(self.matrices.values())).shape[0])

    def _matrix(self, path: Path, place: str) -> Any:
        stored = self.file[place]
        if not hasattr(stored, "keys"):
            return stored
        matrix = self.anndata.io.sparse_dataset(stored)
        if matrix.format != "csr":
            raise DataError(
                f"{path} has {place} by columns, and its rows cannot be read: write it as CSR, by .tocsr()"
            )
        return SparseRows(stored, matrix.shape)

    @property
    def size(self) -> int:
        size = 0
        for place in self.places:
            stored = self.file[place]
            parts = stored.values() if hasattr(stored, "keys") else [stored]
            size += sum(part.size * part.dtype.itemsize for part in parts)
        return size

    def pieces(self) -> Iterator[Cells]:
        size = max(1, PIECE_BYTES * self.rows // max(1, self.size))
        for start in range(0, self.rows, size):
            stop = min(start + size, self.rows)
            rows = {place: matrix[start:stop] for place, matrix in self.matrices.items()}
            yield {"": np.arange(start, stop), **rows}

    def rows_of(self, piece: Cells) -> int:
        return int(piece[""].shape[0])

    def take(self, piece: Cells, index: np.ndarray) -> Cells:
        return {name: rows[index] for name, rows in piece.items()}

    def join(self, pieces: Sequence[Cells]) -> Cells:
        from scipy.sparse import issparse, vstack

        joined: Cells = {}
        for name in ("", *self.places):
            parts = [piece[name] for piece in pieces]
            joined[name] = vstack(parts, format="csr") if issparse(parts[0]) else np.concatenate(parts)
        return joined

    def write(self, path: Path, pieces: Iterator[Cells]) -> None:
        import h5py

        order = []
        with h5py.File(path, "w") as new:
            new.attrs.update(self.file.attrs)
            for group in ("layers", "raw"):
                if group in self.file:
                    new.create_group(group).attrs.update(self.file[group].attrs)
            for piece in pieces:
                order.append(np.asarray(piece.pop("")))
                for place, rows in piece.items():
                    self._append(new, place, rows)
            index = np.concatenate(order)
            for name in (*_OTHERS, "raw/var", "raw/varm"):
                if name in self.file:
                    self.file.copy(name, new[name.rpartition("/")[0] or "/"])
            for name in _OF_ROWS:
                if name in self.file:
                    self._reorder(self.file[name], new.create_group(name), index)
        self.file.close()

    def _append(self, new: Any, place: str, rows: Any) -> None:
        """Writes rows behind those of a matrix that are there."""
        if hasattr(rows, "tocsr"):
            if place in new:
                self.anndata.io.sparse_dataset(new[place]).append(rows)
            else:
                self.anndata.io.write_elem(new, place, rows, dataset_kwargs=self._packed(place))
        elif place in new:
            begun = len(new[place])
            new[place].resize(begun + len(rows), axis=0)
            new[place][begun:] = rows
        else:
            chunk = max(1, min(len(rows), 2**20 // max(1, rows[:1].nbytes)))
            layout = {"maxshape": (None, *rows.shape[1:]), "chunks": (chunk, *rows.shape[1:])}
            self.anndata.io.write_elem(new, place, rows, dataset_kwargs={**self._packed(place), **layout})

    def _reorder(self, old: Any, new: Any, index: np.ndarray) -> None:
        """Copies a group of values of the rows, such as the columns of obs, in another order. Categories have no order."""
        new.attrs.update(old.attrs)
        for name, values in old.items():
            kind = values.attrs.get("encoding-type", "")
            if name == "categories":
                old.copy(name, new)
            elif "matrix" in kind:
                rows = self.anndata.io.read_elem(values)[index]
                self.anndata.io.write_elem(new, name, rows[:, index] if old.name == "/obsp" else rows)
            elif hasattr(values, "keys"):
                self._reorder(values, new.create_group(name), index)
            else:
                rows = values[()][index]
                rows = rows[:, index] if old.name == "/obsp" else rows
                new.create_dataset(name, data=rows, dtype=values.dtype).attrs.update(values.attrs)

    def _packed(self, place: str) -> dict[str, Any]:
        """How a matrix is compressed."""
        stored = self.file[place]
        stored = stored["data"] if hasattr(stored, "keys") else stored
        if stored.compression is None:
            return {}
        return {"compression": stored.compression, "compression_opts": stored.compression_opts}
