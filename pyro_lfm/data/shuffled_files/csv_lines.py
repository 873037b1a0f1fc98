"""``CsvLines``: the records of a file of text with delimiters, as they are written, for ``lfm.data.shuffle``."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from io import TextIOWrapper
from itertools import chain, islice
from pathlib import Path
from typing import IO, cast

import numpy as np

from pyro_lfm.data.csv_text import CsvFile
from pyro_lfm.data.csv_text.encoding import decoded
from pyro_lfm.data.csv_text.file_layout import preamble_of
from pyro_lfm.data.shuffled_files.row_file import PIECE_BYTES, RowFile
from pyro_lfm.errors import DataError

# Bytes by which the encoding is recognised, and records by which the header is.
_HEAD, _FIRST = 2**20, 500
# The longest record: quotes that do not end would make one of the whole rest of the file.
_LONGEST = 2**24


class CsvLines(RowFile[list[str]]):
    """Records of text; one may have several lines within quotes. The header stays at the top."""

    def __init__(self, path: Path):
        self.path, self.packed = path, path.name.lower().endswith(".gz")
        with self._file() as file:
            head = file.read(_HEAD)
        self.encoding = decoded(_whole_lines(head), path.name)[1]
        with self._text() as lines:
            first = [*islice(self._records(lines), _FIRST)]
        text = "".join(first)
        preamble = preamble_of(text)[0]
        named = CsvFile.of_bytes(self.encoding.encode(text), path).dialect.header
        # What stands before the rows: a line such as sep=; and the names of the columns.
        self.head = 0
        while self.head < len(first) and len("".join(first[: self.head])) < len(preamble):
            self.head += 1
        self.head += int(named)
        self.end = "\r\n" if first[0].endswith("\r\n") else "\n"

    @property
    def size(self) -> int:
        # Strings of Python take more memory than their bytes; text is packed about five times.
        return self.path.stat().st_size * (10 if self.packed else 2)

    def pieces(self) -> Iterator[list[str]]:
        with self._text() as lines:
            piece: list[str] = []
            size = 0
            for record in islice(self._records(lines), self.head, None):
                if not record.strip():
                    continue
                piece.append(record if record.endswith(("\n", "\r")) else record + self.end)
                size += len(record)
                if size > PIECE_BYTES:
                    yield piece
                    piece, size = [], 0
        if piece:
            yield piece

    def rows_of(self, piece: list[str]) -> int:
        return len(piece)

    def take(self, piece: list[str], index: np.ndarray) -> list[str]:
        return [piece[place] for place in index]

    def join(self, pieces: Sequence[list[str]]) -> list[str]:
        return [*chain.from_iterable(pieces)]

    def write(self, path: Path, pieces: Iterator[list[str]]) -> None:
        with self._text() as lines:
            head = "".join(islice(self._records(lines), self.head))
        with gzip.open(path, "wb") if self.packed else path.open("wb") as file:
            file.write(self.encoding.mark + self._encoded(head))
            for piece in pieces:
                file.write(self._encoded("".join(piece)))

    def _encoded(self, text: str) -> bytes:
        return text.encode(self.encoding.name, "surrogateescape")

    def _file(self) -> IO[bytes]:
        return cast(IO[bytes], gzip.open(self.path)) if self.packed else self.path.open("rb")

    def _text(self) -> TextIOWrapper:
        """The file as text with its ends of lines. Bytes that are none of the encoding come back as they were."""
        return TextIOWrapper(self._file(), self.encoding.name, errors="surrogateescape", newline="")

    def _records(self, lines: TextIOWrapper) -> Iterator[str]:
        """The records without the byte order mark. A line in whose quotes the line ends goes on in the next one."""
        record, number, begun = "", 0, 0
        for line in lines:
            number += 1
            line = line.removeprefix("\ufeff") if number == 1 else line
            record, begun = record + line, begun or number
            if line.count('"') % 2 == 0 and record is line or record.count('"') % 2 == 0:
                yield record
                record, begun = "", 0
            elif len(record) > _LONGEST:
                break
        if record:
            raise DataError(
                f"{self.path.name}, line {begun}: a quote does not end: double it, or take it out"
            )


def _whole_lines(head: bytes) -> bytes:
    """The first bytes of a file up to the end of a line, so that no character is cut."""
    if len(head) < _HEAD:
        return head
    return head if b"\0" in head[:64] else head[: head.rfind(b"\n") + 1] or head
