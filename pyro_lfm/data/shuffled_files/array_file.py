"""``ArrayFile``: the rows of a .npy file, for ``lfm.data.shuffle``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from pyro_lfm.data.shuffled_files.row_file import PIECE_BYTES, RowFile
from pyro_lfm.errors import DataError


class ArrayFile(RowFile[np.ndarray]):
    """An array (N, ...) of numbers, text or named fields."""

    def __init__(self, path: Path):
        self.array = npy.open_memmap(path, mode="r")
        if not self.array.ndim:
            raise DataError(f"{path} must have rows, shape (N, ...); got a single number")

    @property
    def size(self) -> int:
        return int(self.array.nbytes)

    def pieces(self) -> Iterator[np.ndarray]:
        rows = max(1, PIECE_BYTES * len(self.array) // max(1, self.size))
        for start in range(0, len(self.array), rows):
            yield np.asarray(self.array[start : start + rows])

    def rows_of(self, piece: np.ndarray) -> int:
        return len(piece)

    def take(self, piece: np.ndarray, index: np.ndarray) -> np.ndarray:
        return piece[index]

    def join(self, pieces: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(pieces)

    def write(self, path: Path, pieces: Iterator[np.ndarray]) -> None:
        # Written by NumPy, which knows the header of any type; its rows follow.
        npy.open_memmap(path, "w+", self.array.dtype, self.array.shape).flush()
        with path.open("r+b") as file:
            file.seek(-int(self.array.nbytes), 2)
            for piece in pieces:
                # Joined pieces have the byte order of the machine.
                file.write(np.ascontiguousarray(piece, self.array.dtype).data)
