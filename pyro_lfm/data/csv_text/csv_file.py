"""``CsvFile``: a CSV file as it is written, its rows as a DataFrame, and the file with missing cells filled."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from pyro_lfm.data.csv_text.csv_records import LINE_END, Record
from pyro_lfm.data.csv_text.dialect import Dialect, recognised
from pyro_lfm.data.csv_text.encoding import decoded
from pyro_lfm.data.csv_text.text_columns import TextColumn
from pyro_lfm.errors import DataError, ShapeError

if TYPE_CHECKING:
    import pandas as pd

# Excel's line that names the delimiter, with quotes or without.
_NAMED_DELIMITER = re.compile(r'"?sep=(.)"?(?:\r\n|\n|\r)')
_COMMENTS = re.compile(r"(?:#[^\r\n]*(?:\r\n|\n|\r))+")


@dataclass(frozen=True, eq=False, repr=False)
class CsvFile:
    """A CSV file, such that it can be written again with missing cells filled and every other byte as it was.

    Attributes:
        path: of the file.
        dialect: how it is written: delimiter, decimal sign, quotes, header, encoding, spellings of missing cells.
        columns: its columns, D.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "cats.csv"
    ...     _ = path.write_bytes(b'name;kg\\r\\n"Tom";4,5\\r\\n"Eve";NA\\r\\n')
    ...     file = CsvFile.read(path)
    >>> file
    CsvFile('cats.csv': 2 rows of 2 columns, delimiter ';', decimal sign ',', utf-8; 1 missing cell)
    >>> file.filled(file.frame().fillna({"kg": 3.97}))
    b'name;kg\\r\\n"Tom";4,5\\r\\n"Eve";4,0\\r\\n'
    """

    path: Path
    dialect: Dialect
    columns: tuple[TextColumn, ...]
    _values: list[list[str | None]]
    _preamble: str
    _records: list[Record]
    _rows: list[int]

    @staticmethod
    def read(
        path: str | os.PathLike[str],
        *,
        delimiter: str | None = None,
        decimal: str | None = None,
        encoding: str | None = None,
        header: bool | None = None,
        missing: Sequence[str] | None = None,
    ) -> CsvFile:
        """Reads a file, also one that is compressed (.csv.gz). What is not given is recognised.

        Args:
            path: of the file.
            delimiter: one character between cells: a comma, semicolon, tab or bar by default.
            decimal: the decimal sign, "." or ",".
            encoding: a name that Python knows; by default UTF-8, UTF-16, Windows-1252 or Latin-1.
            header: whether the first record holds the names of the columns.
            missing: the spellings of missing cells beside the empty one, in place of NA, NaN, null, ? and the like.

        Raises:
            DataError: a file that cannot be read, is no text, has no rows, rows of different lengths, or a name twice.
        """
        path = Path(path)
        return CsvFile.of_bytes(
            _content(path),
            path,
            delimiter=delimiter,
            decimal=decimal,
            encoding=encoding,
            header=header,
            missing=missing,
        )

    @staticmethod
    def of_bytes(
        content: bytes,
        path: Path,
        *,
        delimiter: str | None = None,
        decimal: str | None = None,
        encoding: str | None = None,
        header: bool | None = None,
        missing: Sequence[str] | None = None,
    ) -> CsvFile:
        """The file with this content. The arguments are those of ``read``."""
        if decimal not in (None, ".", ","):
            raise DataError(f'decimal must be "." or ","; got {decimal!r}')
        if delimiter is not None and (len(delimiter) != 1 or delimiter in "\r\n\"'"):
            raise DataError(f"delimiter must be one character, such as ';' or '\\t'; got {delimiter!r}")
        what = path.name
        text, coded = decoded(content, what, encoding)
        if not text.strip():
            raise DataError(f"{what} is empty: it needs a line with names and a line for each row")
        named = _NAMED_DELIMITER.match(text)
        preamble = named.group() if named else _comments(text)
        text = text[len(preamble) :]
        dialect = recognised(
            text,
            coded,
            what,
            delimiter=named.group(1) if named and delimiter is None else delimiter,
            decimal=decimal,
            header=header,
            missing=missing,
        )
        records = list(dialect.grammar.records(text, what, 1 + len(LINE_END.findall(preamble))))
        rows = _rows_of(records)
        names = _names(records, rows, dialect, what)
        rows = rows[1:] if dialect.header else rows
        if not rows:
            raise DataError(f"{what} has names of columns but no rows: check how it was exported")
        columns, values = [], []
        for k, name in enumerate(names):
            column, cells = TextColumn.of(name, [records[i].fields[k] for i in rows], dialect)
            columns.append(column)
            values.append(cells)
        return CsvFile(path, dialect, tuple(columns), values, preamble, records, rows)

    @cached_property
    def missing(self) -> np.ndarray:
        """(N, D) whether a cell is missing."""
        return np.array([[value is None for value in column] for column in self._values]).T

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def __repr__(self) -> str:
        gaps = int(self.missing.sum())
        return (
            f"CsvFile({self.path.name!r}: {len(self)} rows of {len(self.columns)} columns, delimiter "
            f"{self.dialect.delimiter!r}, decimal sign {self.dialect.decimal!r}, {self.dialect.encoding.name}"
            f"{'' if self.dialect.header else ', no header'}; {gaps} missing cell{'s' * (gaps != 1)})"
        )

    def frame(self) -> pd.DataFrame:
        """The rows, N, as a new DataFrame: whole numbers, numbers, booleans, and text; missing cells are NA or NaN."""
        try:
            import pandas as pd
        except ImportError:
            raise ImportError("reading CSV needs pandas: pip install 'pyro_lfm[data]'") from None
        pairs = zip(self.columns, self._values, strict=True)
        return pd.DataFrame({column.name: column.series(values) for column, values in pairs})

    def filled(self, frame: pd.DataFrame, where: ArrayLike | None = None) -> bytes:
        """The bytes of the file with missing cells filled; every other byte is as it was.

        Values are written as the other cells of their column are: the decimal sign, digits, quotes, spelling of True.

        Args:
            frame: N rows in the order of the file, with some or all of its columns. What is missing in it stays missing.
            where: (N, D) the missing cells to fill, in the order of the file's columns; by default all.

        Raises:
            DataError: a column that the file lacks, a value that its column cannot hold, or a cell that is not missing.
            ShapeError: another number of rows.
        """
        chosen = self._chosen(frame, where)
        grammar, known = self.dialect.grammar, {name: k for k, name in enumerate(self.names)}
        changed: dict[int, list[str]] = {}
        for name in frame.columns:
            k = known[name]
            column, values = self.columns[k], frame[name]
            for i in np.flatnonzero(chosen[:, k] & values.notna().to_numpy()):
                record = self._records[self._rows[i]]
                fields = changed.setdefault(self._rows[i], list(record.fields))
                cell = column.filled(grammar.cell(fields[k]), values.iloc[i], self.path.name)
                fields[k] = grammar.field(cell)
        lines = (
            self.dialect.delimiter.join(changed.get(i, record.fields)) + record.end
            for i, record in enumerate(self._records)
        )
        return self.dialect.encoding.encode(self._preamble + "".join(lines))

    def write(
        self, path: str | os.PathLike[str], frame: pd.DataFrame, where: ArrayLike | None = None
    ) -> None:
        """Writes the file with missing cells filled, see ``filled``; compressed if the path ends in .gz.

        The file is written whole or not at all.
        """
        path = Path(path)
        content = self.filled(frame, where)
        if path.suffix.lower() == ".gz":
            content = gzip.compress(content, mtime=0)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            beside.write_bytes(content)
            beside.replace(path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise DataError(f"{path} cannot be written: {error.strerror or type(error).__name__}") from None

    def _chosen(self, frame: pd.DataFrame, where: ArrayLike | None) -> np.ndarray:
        """(N, D) the cells to fill."""
        if len(frame) != len(self):
            raise ShapeError(f"frame must have the rows of {self.path.name}, {len(self)}; got {len(frame)}")
        unknown = [str(name) for name in frame.columns if name not in self.names]
        if unknown:
            raise DataError(
                f"{self.path.name} has no column {', '.join(unknown)}; it has {', '.join(self.names)}: drop what it lacks"
            )
        if where is None:
            return self.missing
        chosen = np.asarray(where, dtype=bool)
        if chosen.shape != self.missing.shape:
            raise ShapeError(f"where must have shape {self.missing.shape}; got {chosen.shape}")
        observed = chosen & ~self.missing
        if observed.any():
            i, k = np.argwhere(observed)[0]
            raise DataError(
                f"where must choose missing cells; row {i} of column {self.names[k]!r} is observed: only missing cells are "
                "filled"
            )
        return chosen


def _content(path: Path) -> bytes:
    """The bytes of a file, decompressed if its name ends in .gz."""
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise DataError(
            f"{path} cannot be read: {why}. Check the path, and the permissions of the file"
        ) from None
    if path.suffix.lower() != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        raise DataError(f"{path} is not compressed by gzip, or is cut off: copy it anew") from None


def _comments(text: str) -> str:
    """Lines at the start that begin with #, except names of columns: as many cells as the line that follows."""
    match = _COMMENTS.match(text)
    if match is None or match.end() == len(text):
        return ""
    lines = match.group().splitlines(keepends=True)
    after = text[match.end() :].splitlines()[0]
    if any(0 < lines[-1].count(each) == after.count(each) for each in ",;\t|"):
        lines.pop()
    return "".join(lines)


def _rows_of(records: list[Record]) -> list[int]:
    """The places of records that are rows. An empty line is one only within a file of a single column."""
    kept = [i for i, record in enumerate(records) if not record.is_blank]
    single = all(len(records[i].fields) == 1 for i in kept)
    return list(range(kept[0], kept[-1] + 1)) if single else kept


def _names(records: list[Record], rows: list[int], dialect: Dialect, what: str) -> list[str]:
    """The names of the columns, of which there are as many in every row."""
    first, body = records[rows[0]], rows[1:] if dialect.header else rows
    width = len(first.fields)
    lengths = {len(records[i].fields) for i in body}
    names = [dialect.grammar.cell(field).value for field in first.fields]
    if dialect.header and lengths == {width + 1}:
        # A column of row names without a name, as R writes it, or a delimiter at the end of each row.
        ends = all(not records[i].fields[-1].strip() for i in body)
        names, width = (names, width) if ends else (["", *names], width + 1)
    elif lengths - {width}:
        raise _ragged(records, body, width, dialect, what)
    if not dialect.header:
        return [f"column_{k + 1}" for k in range(width)]
    names = [name.strip() or f"Unnamed: {k}" for k, name in enumerate(names)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"{what}, line {first.line}: the name {twice[0]!r} stands for {names.count(twice[0])} columns: rename one"
        )
    return names


def _ragged(records: list[Record], body: list[int], width: int, dialect: Dialect, what: str) -> DataError:
    wrong = [records[i] for i in body if len(records[i].fields) != width]
    first = wrong[0]
    more = f" (and {len(wrong) - 1} more lines)" if len(wrong) > 1 else ""
    remedy = (
        f"put cells that hold {dialect.delimiter!r} in quotes, or name the delimiter="
        if len(first.fields) > width
        else "add the cells that are lacking, empty if they are missing"
    )
    return DataError(
        f"{what}, line {first.line}: {len(first.fields)} cell{'s' * (len(first.fields) != 1)} where the first line has "
        f"{width}{more}: {remedy}"
    )
