"""A column of a CSV file: what its cells hold, and how a value is written as one more of them; for ``CsvFile``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from pyro_lfm.data.csv_text.csv_records import Cell, Grammar
from pyro_lfm.data.csv_text.dialect import MISSING_NUMBERS, Dialect
from pyro_lfm.data.csv_text.numerals import Numerals, number_pattern
from pyro_lfm.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

Content = Literal["integer", "number", "boolean", "text"]
# How logical values are spelled; labels such as yes and no stay labels.
_LOGICAL = {"true": True, "false": False}
# What a field begins or ends with that is not its value alone.
_AROUND = " \t\"'"


@dataclass(frozen=True)
class TextColumn:
    """A column of a CSV file.

    Attributes:
        name: of the column.
        content: what its cells hold.
        numerals: how it writes numbers; None for other contents.
        spelled: how it writes True and False; empty for other contents.
        quoted: whether most of its cells stand in quotes.
        before: the spaces before most of its cells.
    """

    name: str
    content: Content
    numerals: Numerals | None = None
    spelled: tuple[tuple[bool, str], ...] = ()
    quoted: bool = False
    before: str = ""

    @staticmethod
    def of(name: str, fields: Sequence[str], dialect: Dialect) -> tuple[TextColumn, list[str | None]]:
        """The column of some raw fields, and its values, (N,): None where they are missing."""
        values, quoted, before = _parts(fields, dialect.grammar)
        known = [value for value in values if value.strip() not in dialect.missing]
        numbers = [each for value in known if (each := value.strip()) not in MISSING_NUMBERS]
        if numbers and all(map(number_pattern(dialect.decimal).fullmatch, numbers)):
            numerals = Numerals.of(numbers, dialect.decimal)
            content: Content = "integer" if numerals.whole else "number"
            column = TextColumn(name, content, numerals, (), quoted, before)
            return column, _without(values, dialect.missing | MISSING_NUMBERS)
        if known and all(value.strip().lower() in _LOGICAL for value in known):
            spelled = _spelled([value.strip() for value in known])
            return TextColumn(name, "boolean", None, spelled, quoted, before), _without(
                values, dialect.missing
            )
        return TextColumn(name, "text", None, (), quoted, before), _without(values, dialect.missing)

    def series(self, values: Sequence[str | None]) -> pd.Series:
        """The values as a column of pandas: whole numbers stay whole where others are missing."""
        import pandas as pd

        gaps = None in values
        if self.content == "text":
            return pd.Series(values, name=self.name, dtype=object).infer_objects()
        if self.content == "boolean":
            logical = [None if value is None else _LOGICAL[value.strip().lower()] for value in values]
            return pd.Series(logical, name=self.name, dtype="boolean" if gaps else bool)
        assert self.numerals is not None
        if self.content == "integer":
            whole = [None if value is None else int(value) for value in values]
            return pd.Series(whole, name=self.name, dtype="Int64" if gaps else "int64")
        decimal = self.numerals.decimal
        numbers = [np.nan if value is None else float(value.replace(decimal, ".")) for value in values]
        return pd.Series(numbers, name=self.name, dtype="float64")

    def filled(self, cell: Cell, value: Hashable, what: str) -> Cell:
        """A missing cell with a value, written as the others of the column are.

        Raises:
            DataError: a value that the column cannot hold.
        """
        empty = not cell.value.strip()
        before = self.before if empty and not cell.quoted else cell.before
        return Cell(before, cell.quoted or self.quoted, self._text(value, what), cell.after)

    def _text(self, value: Hashable, what: str) -> str:
        try:
            if self.numerals is not None:
                number = float(value)  # type: ignore[arg-type]
                if not np.isfinite(number):
                    raise ValueError
                return self.numerals.text(number)
            if self.spelled:
                if value not in (0, 1):
                    raise ValueError
                return dict(self.spelled)[bool(value)]
        except (TypeError, ValueError):
            raise DataError(
                f"{what}, column {self.name!r}, holds {_WORDS[self.content]}; got {value!r}: give a value of that kind"
            ) from None
        return str(value)


def _parts(fields: Sequence[str], grammar: Grammar) -> tuple[Sequence[str], bool, str]:
    """The values of raw fields, whether most of those with a value are quoted, and the spaces before most of them."""
    if not any(field[:1] in _AROUND or field[-1:] in _AROUND for field in fields if field):
        return fields, False, ""
    q = grammar.quote
    if all(len(field) > 1 and field[0] == q == field[-1] and field.count(q) == 2 for field in fields):
        return [field[1:-1] for field in fields], True, ""
    cells = [grammar.cell(field) for field in fields]
    present = [cell for cell in cells if cell.value.strip()]
    quoted = sum(cell.quoted for cell in present) * 2 > len(present)
    before = Counter(cell.before for cell in present).most_common(1)[0][0] if present else ""
    return [cell.value for cell in cells], quoted, before


def _without(values: Sequence[str], missing: frozenset[str]) -> list[str | None]:
    return [None if value.strip() in missing else value for value in values]


_WORDS = {"integer": "whole numbers", "number": "numbers", "boolean": "True and False", "text": "labels"}


def _spelled(cells: Sequence[str]) -> tuple[tuple[bool, str], ...]:
    """The most frequent spelling of True and of False; that of an absent one follows the other's capitals."""
    counted = Counter(cells).most_common()
    spelled = {}
    for truth in (True, False):
        known = [text for text, _ in counted if _LOGICAL[text.lower()] is truth]
        other = counted[0][0]
        like = (
            str(truth).upper() if other.isupper() else str(truth).lower() if other.islower() else str(truth)
        )
        spelled[truth] = known[0] if known else like
    return tuple(spelled.items())
