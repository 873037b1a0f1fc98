"""Recognises how a CSV file is written: delimiter, quotes, decimal sign, header; for ``CsvFile``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from pyro_lfm.data.csv_text.csv_records import Grammar, Record
from pyro_lfm.data.csv_text.encoding import Encoding
from pyro_lfm.data.csv_text.numerals import is_integer, is_number
from pyro_lfm.errors import DataError

DELIMITERS = (",", ";", "\t", "|")
# The spellings of a missing cell, and those that count in columns of numbers only.
MISSING = frozenset(
    "|NA|N/A|n/a|#N/A|#N/A N/A|#NA|NaN|nan|NAN|-NaN|-nan|null|NULL|Null|None|<NA>|?|1.#IND|-1.#IND|1.#QNAN|-1.#QNAN".split(
        "|"
    )
)
MISSING_NUMBERS = frozenset({".", "-", "--", "*", "na", "none", "NONE"})
# What is read to recognise a dialect.
_RECORDS, _CHARACTERS = 200, 2**18


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written.

    Attributes:
        delimiter: between cells.
        decimal: the decimal sign, "." or ",".
        quote: around cells that hold delimiters, quotes or ends of lines.
        header: whether the first record holds the names of the columns.
        encoding: of the text.
        missing: the spellings of a missing cell.
    """

    delimiter: str
    decimal: str
    quote: str
    header: bool
    encoding: Encoding
    missing: frozenset[str] = MISSING

    @property
    def grammar(self) -> Grammar:
        return Grammar(self.delimiter, self.quote)


@dataclass(frozen=True)
class _Sample:
    """The first records of a text under one grammar."""

    grammar: Grammar
    cells: list[list[str]]

    @property
    def width(self) -> int:
        return Counter(map(len, self.cells)).most_common(1)[0][0] if self.cells else 1

    def score(self, delimiter_order: int) -> tuple[bool, float, float, int, int]:
        """How well the delimiter explains the text; the largest wins."""
        alike = sum(len(record) == self.width for record in self.cells) / max(1, len(self.cells))
        flat = [value for record in self.cells for value in record]
        plain = sum(is_number(v, ".") or is_number(v, ",") or v in MISSING for v in flat) / max(1, len(flat))
        return self.width > 1, round(alike, 2), round(plain, 2), self.width, -delimiter_order


def recognised(
    text: str,
    encoding: Encoding,
    what: str,
    *,
    delimiter: str | None = None,
    decimal: str | None = None,
    header: bool | None = None,
    missing: Sequence[str] | None = None,
) -> Dialect:
    """The dialect of a text. What is given is taken as it is.

    Args:
        text: of the file, without what stands before the first record.
        what: the file, for messages.

    Raises:
        DataError: no delimiter gives cells that can be read.
    """
    candidates = DELIMITERS if delimiter is None else (delimiter,)
    quote = _quote(text, what, candidates)
    samples, faults = [], []
    for candidate in candidates:
        try:
            samples.append(_sample(text, Grammar(candidate, quote), what))
        except DataError as error:
            faults.append(error)
    if not samples or (faults and max(sample.width for sample in samples) == 1):
        raise faults[0]
    order = {each: place for place, each in enumerate(DELIMITERS)}
    best = max(samples, key=lambda sample: sample.score(order.get(sample.grammar.delimiter, 0)))
    spellings = MISSING if missing is None else frozenset(missing) | {""}
    columns = _columns(best.cells[1:] or best.cells, best.width)
    decimal = decimal_of(columns, best.grammar.delimiter, spellings) if decimal is None else decimal
    if header is None:
        header = _has_header(best.cells, decimal, spellings)
    return Dialect(best.grammar.delimiter, decimal, quote, header, encoding, spellings)


def _sample(text: str, grammar: Grammar, what: str) -> _Sample:
    whole = len(text) <= _CHARACTERS
    records: list[Record] = []
    try:
        for record in islice(grammar.records(text[:_CHARACTERS], what), _RECORDS + 1):
            records.append(record)
    except DataError:
        if whole or not records:  # else the sample ends within quotes
            raise
    kept = [record for record in records if not record.is_blank][:_RECORDS]
    if not whole and len(kept) > 1 and len(records) <= _RECORDS:
        kept.pop()  # the sample ends within this record
    return _Sample(grammar, [[grammar.cell(field).value for field in record.fields] for record in kept])


def _quote(text: str, what: str, delimiters: Sequence[str]) -> str:
    """Single quotes if some cells stand in them and none begins with one alone."""
    first = text[:_CHARACTERS]
    if "'" not in first or '"' in first:
        return '"'
    for delimiter in delimiters:
        grammar = Grammar(delimiter, "'")
        try:
            records = list(islice(grammar.records(first, what), _RECORDS))
        except DataError:
            continue
        if any(grammar.cell(field).quoted for record in records for field in record.fields):
            return "'"
    return '"'


def _columns(cells: list[list[str]], width: int) -> list[list[str]]:
    rows = [record for record in cells if len(record) == width]
    return [[row[k] for row in rows] for k in range(width)]


def decimal_of(columns: list[list[str]], delimiter: str, missing: frozenset[str]) -> str:
    """The sign in which more columns write numbers."""
    votes = {".": 0, ",": 0}
    for column in columns:
        present = [cell for cell in column if cell not in missing and cell not in MISSING_NUMBERS]
        for sign in votes:
            votes[sign] += any(sign in c for c in present) and all(is_number(c, sign) for c in present)
    if votes["."] == votes[","]:
        return "," if delimiter == ";" and votes[","] else "."
    return max(votes, key=lambda sign: votes[sign])


def _has_header(cells: list[list[str]], decimal: str, missing: frozenset[str]) -> bool:
    """Whether the first record holds names: texts above numbers, or texts that do not come again."""
    if not cells:
        return True
    first, body = cells[0], cells[1:]
    columns = _columns(body, len(first))
    present = [[cell for cell in column if cell not in missing] for column in columns]
    numeric = [bool(column) and all(is_number(cell, decimal) for cell in column) for column in present]
    names_numbers = [is_number(name, decimal) for name in first]
    above = zip(numeric, names_numbers, first, strict=True)
    if any(below and not number and name not in missing | MISSING_NUMBERS for below, number, name in above):
        return True
    if any(names_numbers):
        return _is_grid(first) and not (body and _is_grid(body[0]))
    repeated = any(name in column for name, column in zip(first, present, strict=True))
    return not repeated and len(set(first)) == len(first)


def _is_grid(names: Sequence[str]) -> bool:
    """Whether the numbers among names rise in equal steps, as years and wavelengths do."""
    numbers = [int(name) for name in names if is_integer(name)]
    steps = {later - earlier for earlier, later in zip(numbers, numbers[1:], strict=False)}
    texts = [name for name in names if not is_integer(name)]
    return (
        len(numbers) >= 2 and len(steps) == 1 and min(steps) > 0 and not any(is_number(t, ".") for t in texts)
    )
