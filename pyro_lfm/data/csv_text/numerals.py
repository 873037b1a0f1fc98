"""Numbers as text: how the cells of a column write them, and others in the same manner; for ``CsvFile``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_PATTERNS = {
    sign: re.compile(
        rf"[+-]?(?:(?:\d+(?:{re.escape(sign)}\d*)?|{re.escape(sign)}\d+)(?:[eE][+-]?\d+)?|inf|Inf|INF|[Ii]nfinity)"
    )
    for sign in ".,"
}
_INTEGER = re.compile(r"[+-]?\d+")
# Filled numbers have at most this many digits behind the sign, or as many as show this fraction of the column's spread.
_PLACES, _FINEST = 6, 1e-6


def is_number(text: str, decimal: str) -> bool:
    """Whether a text is a number with this decimal sign.

    >>> is_number("1,5", ","), is_number("1,5", ".")
    (True, False)
    """
    return _PATTERNS[decimal].fullmatch(text) is not None


def is_integer(text: str) -> bool:
    """Whether a text is a whole number without a decimal sign or an exponent."""
    return _INTEGER.fullmatch(text) is not None


@dataclass(frozen=True)
class Numerals:
    """How a column writes its numbers.

    Attributes:
        decimal: the decimal sign.
        whole: whether all are whole numbers without a decimal sign.
        width: the number of digits to which whole numbers are filled up by zeros; 0 without such zeros.
        least, most: the least and the largest number of digits behind the decimal sign.
        exponent: "e" or "E" if most have an exponent, else "".
    """

    decimal: str
    whole: bool
    width: int = 0
    least: int = 0
    most: int = 0
    exponent: str = ""

    @staticmethod
    def of(cells: Sequence[str], decimal: str) -> Numerals:
        """The manner of some cells, each a number.

        >>> Numerals.of(["39.1", "40"], ".").text(41.26)
        '41.3'
        """
        if all(is_integer(cell) for cell in cells):
            digits = [cell.lstrip("+-") for cell in cells]
            padded = any(len(each) > 1 and each[0] == "0" for each in digits)
            return Numerals(decimal, True, max(map(len, digits)) if padded else 0)
        parts = [re.split("[eE]", cell) for cell in cells if cell[-1].isdigit() or cell[-1] == decimal]
        marks = "".join(mark for cell in cells for mark in cell if mark in "eE" and cell[-1].isdigit())
        scientific = len(marks) * 2 > len(cells)
        places = [len(p[0].partition(decimal)[2]) for p in parts if (len(p) == 2) == scientific] or [0]
        most = min(max(places), _enough(cells, decimal))
        exponent = max("eE", key=marks.count) if scientific else ""
        return Numerals(decimal, False, 0, min(min(places), most), most, exponent)

    def text(self, value: float) -> str:
        """A number as a cell of the column."""
        if self.whole:
            number = int(round(value))
            return f"{'-' * (number < 0)}{abs(number):0{self.width}d}"
        if self.exponent:
            return f"{value:.{self.most}{self.exponent}}".replace(".", self.decimal)
        text = f"{value:.{self.most}f}"
        whole, _, places = text.partition(".")
        kept = places[: self.least] + places[self.least :].rstrip("0")
        whole = whole.lstrip("-") if not float(text) else whole  # no "-0.0"
        return f"{whole}{self.decimal}{kept}" if kept else whole


def _enough(cells: Sequence[str], decimal: str) -> int:
    """The number of digits behind the sign that a filled number may have."""
    values = np.array([float(cell.replace(decimal, ".")) for cell in cells])
    values = values[np.isfinite(values)]
    spread = float(np.std(values)) if len(values) else 0.0
    return max(_PLACES, int(np.ceil(-np.log10(_FINEST * spread)))) if 0 < spread < np.inf else _PLACES
