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
# Longer ones do not fit into 64 bits, and are read as floats.
_INTEGER = re.compile(r"[+-]?\d{1,18}")
# Filled numbers have at most this many digits behind the sign, or as many as show this fraction of the column's spread.
_PLACES, _FINEST = 6, 1e-6


def number_pattern(decimal: str) -> re.Pattern[str]:
    """The pattern of whole texts that are numbers with this decimal sign."""
    return _PATTERNS[decimal]


def is_number(text: str, decimal: str) -> bool:
    """Whether a text is a number with this decimal sign.

    >>> is_number("1,5", ","), is_number("1,5", ".")
    (True, False)
    """
    return _PATTERNS[decimal].fullmatch(text) is not None


def is_integer(text: str) -> bool:
    """Whether a text is a whole number of 64 bits, without a decimal sign or an exponent."""
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
        cells = [cell for cell in cells if "n" not in cell and "N" not in cell] or ["0.0"]  # no infinities
        if all(map(_INTEGER.fullmatch, cells)):
            digits = [cell.lstrip("+-") for cell in cells]
            padded = any(len(each) > 1 and each[0] == "0" for each in digits)
            return Numerals(decimal, True, max(map(len, digits)) if padded else 0)
        marks = [mark for cell in cells for mark in "eE" if mark in cell]
        scientific = len(marks) * 2 > len(cells)
        mantissas = cells
        if marks:
            parts = [re.split("[eE]", cell) for cell in cells]
            mantissas = [part[0] for part in parts if (len(part) == 2) == scientific]
        signs = [each.find(decimal) for each in mantissas]
        places = [len(c) - at - 1 if at >= 0 else 0 for c, at in zip(mantissas, signs, strict=True)]
        most = max(places)
        most = min(most, _enough(cells, decimal)) if most > _PLACES else most
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
