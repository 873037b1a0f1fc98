"""``ZarrArrays``: the rows of an array of zarr, or of arrays by name in a group, for ``lfm.data.shuffle``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyro_lfm.data.files.required_package import needed
from pyro_lfm.data.shuffled_files.row_file import PIECE_BYTES, RowFile
from pyro_lfm.errors import DataError

# The bytes of a chunk that is written: many of them fit into the buffer of a training.
_CHUNK_BYTES = 2**20


class ZarrArrays(RowFile[dict[str, np.ndarray]]):
    """Arrays (N, ...) whose rows belong together. A single array has the name ""."""

    def __init__(self, path: Path):
        store = needed("zarr", path).open(path, mode="r")
        self.group = store if hasattr(store, "group_keys") else None
        if self.group is not None and self.group.attrs.get("encoding-type") == "anndata":
            raise DataError(f"{path} is an AnnData: write it as .h5ad, which can be shuffled")
        self.arrays = {"": store} if self.group is None else dict(self.group.arrays())
        lengths = {name: array.shape[0] if array.shape else 0 for name, array in self.arrays.items()}
        if len(set(lengths.values())) != 1:
            given = ", ".join(f"{name}: {rows}" for name, rows in lengths.items()) or "none"
            raise DataError(f"{path} must hold arrays with as many rows each, to be shuffled; got {given}")
        self.rows = next(iter(lengths.values()))

    @property
    def size(self) -> int:
        return sum(int(array.nbytes) for array in self.arrays.values())

    def pieces(self) -> Iterator[dict[str, np.ndarray]]:
        chunk = max(array.chunks[0] for array in self.arrays.values())
        size = max(chunk, PIECE_BYTES * self.rows // max(1, self.size) // chunk * chunk)
        for start in range(0, self.rows, size):
            yield {name: np.asarray(array[start : start + size]) for name, array in self.arrays.items()}

    def rows_of(self, piece: dict[str, np.ndarray]) -> int:
        return len(next(iter(piece.values())))

    def take(self, piece: dict[str, np.ndarray], index: np.ndarray) -> dict[str, np.ndarray]:
        return {name: values[index] for name, values in piece.items()}

    def join(self, pieces: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in self.arrays}

    def write(self, path: Path, pieces: Iterator[dict[str, np.ndarray]]) -> None:
        import zarr

        if self.group is not None:
            zarr.open_group(path, mode="w").attrs.update(dict(self.group.attrs))
        new = {name: self._like(path, name, array) for name, array in self.arrays.items()}
        begun = 0
        for piece in _in_chunks(pieces, max(array.chunks[0] for array in new.values())):
            count = self.rows_of(piece)
            for name, values in piece.items():
                new[name][begun : begun + count] = values
            begun += count

    def _like(self, path: Path, name: str, array: Any) -> Any:
        """A new array with the type, attributes and compression of another."""
        import zarr

        row = max(1, array.nbytes // max(1, self.rows))
        chunks = (max(1, min(self.rows, _CHUNK_BYTES // row)), *array.shape[1:])
        return zarr.create_array(
            str(path / name) if name else str(path),
            shape=array.shape,
            dtype=array.dtype,
            chunks=chunks,
            compressors=array.compressors,
            fill_value=array.fill_value,
            attributes=dict(array.attrs),
            zarr_format=array.metadata.zarr_format,
        )


def _in_chunks(pieces: Iterator[dict[str, np.ndarray]], chunk: int) -> Iterator[dict[str, np.ndarray]]:
    """The same rows in pieces of whole chunks, so that none is written twice; the last piece has the rest."""
    rest: dict[str, np.ndarray] | None = None
    for piece in pieces:
        if rest is not None:
            piece = {name: np.concatenate([rest[name], values]) for name, values in piece.items()}
        full = len(next(iter(piece.values()))) // chunk * chunk
        yield {name: values[:full] for name, values in piece.items()}
        rest = {name: values[full:] for name, values in piece.items()}
    if rest is not None:
        yield rest
