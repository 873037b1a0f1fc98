"""What stands where in a CSV file: lines before the table, the rows, the names of the columns; for ``CsvFile``."""

from __future__ import annotations

import re

from pyro_lfm.data.csv_text.csv_records import Cell, Record
from pyro_lfm.data.csv_text.dialect import Dialect, decimal_of
from pyro_lfm.data.csv_text.numerals import is_number
from pyro_lfm.errors import DataError

# Excel's line that names the delimiter, with quotes or without.
_NAMED_DELIMITER = re.compile(r'"?sep=(.)"?(?:\r\n|\n|\r)')
# The rows that show the decimal sign.
_SPREAD = 2000
_COMMENTS = re.compile(r"(?:#[^\r\n]*(?:\r\n|\n|\r))+")


def preamble_of(text: str) -> tuple[str, str | None]:
    """The lines before the table, and the delimiter that they name, if they do."""
    named = _NAMED_DELIMITER.match(text)
    return (named.group(), named.group(1)) if named else (_comments(text), None)


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


def rows_of(records: list[Record]) -> list[int]:
    """The places of records that are rows. An empty line is one only within a file of a single column."""
    kept = [i for i, record in enumerate(records) if not record.is_blank]
    single = all(len(records[i].fields) == 1 for i in kept)
    return list(range(kept[0], kept[-1] + 1)) if single else kept


def decimal_sign(records: list[Record], rows: list[int], width: int, dialect: Dialect) -> str:
    """The decimal sign, by rows spread over the whole file: the first ones may hold whole numbers alone."""
    seen = [records[i].fields for i in rows[:: max(1, len(rows) // _SPREAD)]]
    columns = [[dialect.grammar.cell(fields[k]).value for fields in seen] for k in range(width)]
    return decimal_of(columns, dialect.delimiter, dialect.missing)


def names_of(records: list[Record], rows: list[int], dialect: Dialect, what: str) -> list[str]:
    """The names of the columns, of which there are as many in every row."""
    first, body = records[rows[0]], rows[1:] if dialect.header else rows
    width = len(first.fields)
    lengths = {len(records[i].fields) for i in body}
    names = [dialect.grammar.cell(field).value for field in first.fields]
    if dialect.header and lengths == {width + 1}:
        # A delimiter at the end of each row, or a column of row names without a name, as R writes it.
        if any(records[i].fields[-1].strip() for i in body):
            if not all(_is_row_name(dialect.grammar.cell(records[i].fields[0]), dialect) for i in body):
                raise _ragged(records, body, width, dialect, what)
            names, width = ["", *names], width + 1
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


def _is_row_name(cell: Cell, dialect: Dialect) -> bool:
    """Whether a cell without a name may name its row: it is a text, or stands in quotes."""
    return cell.quoted or not is_number(cell.value, dialect.decimal)


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
