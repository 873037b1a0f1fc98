"""A column of a CSV file: what its cells hold, and how a value is written as one more of them; for ``CsvFile``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from pyro_lfm.data.csv_text.dialect import MISSING_NUMBERS, Dialect
from pyro_lfm.data.csv_text.numerals import Numerals, is_number
from pyro_lfm.data.csv_text.records import Cell
from pyro_lfm.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

Content = Literal["integer", "number", "boolean", "text"]
# How logical values are spelled; labels such as yes and no stay labels.
_LOGICAL = {"true": True, "false": False}


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
    def of(name: str, cells: Sequence[Cell], dialect: Dialect) -> tuple[TextColumn, np.ndarray]:
        """The column of some cells, and which of them are missing, (N,)."""
        values = [cell.value.strip() for cell in cells]
        missing = np.array([value in dialect.missing for value in values], dtype=bool)
        also = missing | np.array([value in MISSING_NUMBERS for value in values], dtype=bool)
        present = [value for value, gone in zip(values, also, strict=True) if not gone]
        whole = [cell for cell, gone in zip(cells, missing, strict=True) if not gone]
        quoted = sum(cell.quoted for cell in whole) * 2 > len(whole)
        before = Counter(cell.before for cell in whole).most_common(1)[0][0] if whole else ""
        if present and all(is_number(value, dialect.decimal) for value in present):
            numerals = Numerals.of(present, dialect.decimal)
            content: Content = "integer" if numerals.whole else "number"
            return TextColumn(name, content, numerals, (), quoted, before), also
        present = [value for value, gone in zip(values, missing, strict=True) if not gone]
        if present and all(value.lower() in _LOGICAL for value in present):
            return TextColumn(name, "boolean", None, _spelled(present), quoted, before), missing
        return TextColumn(name, "text", None, (), quoted, before), missing

    def series(self, cells: Sequence[Cell], missing: np.ndarray) -> pd.Series:
        """The cells as a column of pandas: whole numbers stay whole where others are missing."""
        import pandas as pd

        values = [None if gone else cell.value.strip() for cell, gone in zip(cells, missing, strict=True)]
        if self.content == "text":
            kept = [None if gone else cell.value for cell, gone in zip(cells, missing, strict=True)]
            return pd.Series(kept, name=self.name, dtype=object).infer_objects()
        if self.content == "boolean":
            logical = [None if value is None else _LOGICAL[value.lower()] for value in values]
            return pd.Series(logical, name=self.name, dtype="boolean" if missing.any() else bool)
        assert self.numerals is not None
        if self.content == "integer":
            whole = [None if value is None else int(value) for value in values]
            if all(value is None or abs(value) < 2**63 for value in whole):
                return pd.Series(whole, name=self.name, dtype="Int64" if missing.any() else "int64")
        numbers = [np.nan if v is None else float(v.replace(self.numerals.decimal, ".")) for v in values]
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
