"""``RowFile``, a data file as pieces of rows, which ``lfm.data.shuffle`` scatters and gathers; one subclass a format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

Piece = TypeVar("Piece")

# The bytes of a piece of rows that is read at a time.
PIECE_BYTES = 2**24


class RowFile(ABC, Generic[Piece]):
    """A data file whose rows are read and written in pieces. A piece is some rows in memory, and can be pickled."""

    @property
    @abstractmethod
    def size(self) -> int:
        """About how many bytes the rows take in memory."""

    @abstractmethod
    def pieces(self) -> Iterator[Piece]:
        """All rows, from front to back."""

    @abstractmethod
    def rows_of(self, piece: Piece) -> int:
        """The number of rows of a piece."""

    @abstractmethod
    def take(self, piece: Piece, index: np.ndarray) -> Piece:
        """Some rows of a piece, in another order."""

    @abstractmethod
    def join(self, pieces: Sequence[Piece]) -> Piece:
        """The rows of several pieces, one after the other."""

    @abstractmethod
    def write(self, path: Path, pieces: Iterator[Piece]) -> None:
        """Writes a file of the same format and layout with these rows; all else is as it was."""
