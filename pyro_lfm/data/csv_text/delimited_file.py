"""``CsvFile``: a CSV file as it is written, its rows as a DataFrame, and the file with missing cells filled."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from pyro_lfm.data.csv_text.csv_records import LINE_END, Cell, Record
from pyro_lfm.data.csv_text.dialect import Dialect, recognised
from pyro_lfm.data.csv_text.encoding import decoded
from pyro_lfm.data.csv_text.file_layout import decimal_sign, names_of, preamble_of, rows_of
from pyro_lfm.data.csv_text.text_columns import TextColumn
from pyro_lfm.errors import DataError, ShapeError

if TYPE_CHECKING:
    import pandas as pd


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
            encoding: a name that Python knows. By default it is UTF-8, UTF-16, Windows-1252 or Latin-1.
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
        preamble, named = preamble_of(text)
        text = text[len(preamble) :]
        if not text.strip():
            raise DataError(f"{what} is empty: it needs a line with names and a line for each row")
        dialect = recognised(
            text,
            coded,
            what,
            delimiter=named if delimiter is None else delimiter,
            decimal=decimal,
            header=header,
            missing=missing,
        )
        records = list(dialect.grammar.records(text, what, 1 + len(LINE_END.findall(preamble))))
        rows = rows_of(records)
        names = names_of(records, rows, dialect, what)
        rows = rows[1:] if dialect.header else rows
        if not rows:
            raise DataError(f"{what} has names of columns but no rows: check how it was exported")
        if decimal is None:
            dialect = replace(dialect, decimal=decimal_sign(records, rows, len(names), dialect))
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
        """The rows, N, as a new DataFrame: whole numbers, numbers, booleans, and text. Missing cells are NA or NaN."""
        try:
            import pandas as pd
        except ImportError:
            raise ImportError("reading CSV needs pandas: pip install 'pyro_lfm[data]'") from None
        pairs = zip(self.columns, self._values, strict=True)
        return pd.DataFrame({column.name: column.series(values) for column, values in pairs})

    def selected(self, places: Sequence[int], number: str | None = None) -> str:
        """Some rows as they stand in the file, with their line of names. Where it has none, one is written.

        Args:
            places: of the rows, 0 to N − 1, in the order wanted.
            number: the name of a column that stands first and holds the places.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "cats.csv"
        ...     _ = path.write_bytes(b'name;kg\\r\\n"Tom";4,5\\r\\n"Eve";NA\\r\\n')
        ...     CsvFile.read(path).selected([1], number="row")
        'row;name;kg\\r\\n1;"Eve";NA\\r\\n'
        """
        separator = self.dialect.delimiter
        end = next((record.end for record in self._records if record.end), "\n")
        named = [(number, self._names_as_written())]
        rows = [(str(place), self._records[self._rows[place]].fields) for place in places]
        lines = ([*([] if number is None else [mark]), *fields] for mark, fields in (*named, *rows))
        return self._preamble + "".join(separator.join(map(str, line)) + end for line in lines)

    def _names_as_written(self) -> list[str]:
        """The fields of the line of names, one for each column."""
        if not self.dialect.header:
            return [self.dialect.grammar.field(Cell("", False, name, "")) for name in self.names]
        fields = next(record.fields for record in self._records if not record.is_blank)
        # R leaves out the name of a first column that holds the names of rows.
        return ["", *fields] if len(fields) < len(self.columns) else fields

    def filled(self, frame: pd.DataFrame, where: ArrayLike | None = None) -> bytes:
        """The bytes of the file with missing cells filled. Every other byte is as it was.

        Values are written as the other cells of their column are: the decimal sign, digits, quotes, spelling of True.

        Args:
            frame: N rows in the order of the file, with some or all of its columns. What is missing in it stays missing.
            where: (N, D) the missing cells to fill, in the order of the file's columns, by default all.

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
        """Writes the file with missing cells filled, see ``filled``. It is compressed if the path ends in .gz.

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
                f"{self.path.name} has no column {', '.join(unknown)}; it has {', '.join(self.names)}: drop these columns"
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
