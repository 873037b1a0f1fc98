"""Text with delimiters as records of raw fields, which joined again are the text; for ``CsvFile``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from pyro_lfm.errors import DataError

LINE_END = re.compile(r"\r\n|\n|\r")


class Record(NamedTuple):
    """A record: the number of its first line, its raw fields with quotes and spaces, and the end of its last line."""

    line: int
    fields: list[str]
    end: str

    @property
    def is_blank(self) -> bool:
        return len(self.fields) == 1 and not self.fields[0].strip()


class Cell(NamedTuple):
    """A raw field in parts: the spaces around it, whether it is quoted, and what it says."""

    before: str
    quoted: bool
    value: str
    after: str


@dataclass(frozen=True)
class Grammar:
    """How the text of a record is split into fields.

    Attributes:
        delimiter: the character between fields.
        quote: the character around fields that hold delimiters, quotes (then doubled) or ends of lines.
    """

    delimiter: str
    quote: str = '"'

    def records(self, text: str, what: str, line: int = 1) -> Iterator[Record]:
        """The records of a text, in order. Ends of lines within quotes belong to their field.

        Args:
            what: the file, for messages.
            line: the number of the first line.

        Raises:
            DataError: quotes that do not end, or text after them; with the line.
        """
        at, delimiter, quote = 0, self.delimiter, self.quote
        while at < len(text):
            match = LINE_END.search(text, at)
            stop, end = (match.start(), match.group()) if match else (len(text), "")
            if text.find(quote, at, stop) < 0:
                yield Record(line, text[at:stop].split(delimiter), end)
                at, line = stop + len(end), line + 1
                continue
            fields, stop, end = self._quoted_record(text, at, what, line)
            yield Record(line, fields, end)
            line += len(LINE_END.findall(text, at, stop)) + 1
            at = stop + len(end)

    def _quoted_record(self, text: str, at: int, what: str, line: int) -> tuple[list[str], int, str]:
        """The fields of the record that begins at a place, the place of its end, and its end."""
        start, field, fields = at, self._field, []
        while True:
            match = field.match(text, at)
            assert match is not None  # an empty field matches
            if match.lastgroup == "open":
                line += len(LINE_END.findall(text, start, at))
                raise self._quote_fault(text, match.start("open"), what, line)
            fields.append(match.group())
            at = match.end()
            if text[at : at + 1] != self.delimiter:
                end = LINE_END.match(text, at)
                return fields, at, end.group() if end else ""
            at += 1

    def _quote_fault(self, text: str, at: int, what: str, line: int) -> DataError:
        shown = text[at : at + 20].split("\n")[0].rstrip("\r")
        if re.compile(f"{self._inside}{self.quote}").match(text, at):
            return DataError(
                f"{what}, line {line}: text follows the end of the quotes in {shown!r}: write a quote within quotes twice, "
                f"as in {self.quote}5{self.quote * 2} pipe{self.quote}"
            )
        return DataError(
            f"{what}, line {line}: the quotes that begin with {shown!r} do not end: add the quote that is lacking"
        )

    @cached_property
    def _inside(self) -> str:
        """A pattern: a quote and all that stands before the next single one."""
        q = self.quote
        return f"{q}(?:[^{q}]++|{q}{q})*+"

    @cached_property
    def _field(self) -> re.Pattern[str]:
        d = re.escape(self.delimiter)
        space = "[ ]*+" if self.delimiter == "\t" else r"[ \t]*+"
        return re.compile(
            f"{space}{self._inside}{self.quote}{space}(?=[{d}\r\n]|\\Z)|{space}(?P<open>{self.quote})|[^{d}\r\n]*+"
        )

    def cell(self, field: str) -> Cell:
        """A raw field in parts.

        >>> Grammar(",").cell(' "5"" pipe"')
        Cell(before=' ', quoted=True, value='5" pipe', after='')
        """
        value = field.strip(" \t")
        start = field.find(value) if value else len(field)
        before, after = field[:start], field[start + len(value) :]
        if len(value) >= 2 and value[0] == self.quote == value[-1]:
            return Cell(before, True, value[1:-1].replace(self.quote * 2, self.quote), after)
        return Cell(before, False, value, after)

    def field(self, cell: Cell) -> str:
        """The raw field of a cell, with quotes where the value needs them."""
        value, q = cell.value, self.quote
        special = any(mark in value for mark in (self.delimiter, "\n", "\r"))
        if cell.quoted or special or value[:1] == q or value != value.strip(" \t"):
            return f"{cell.before}{q}{value.replace(q, q * 2)}{q}{cell.after}"
        return f"{cell.before}{value}{cell.after}"
