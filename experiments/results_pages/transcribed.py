"""Records that were transcribed from a page, because the raw output of their run is gone: their tables and single figures.

Such a record says so in its field ``origin``. Its tables hold the cells as the page shows them, by row and column.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

FIGURES = Path(__file__).parents[1] / "figures"
# A number, and the comment behind it that says where it is stored.
FIGURE = re.compile(r"(\d[\d,]*(?:\.\d+)?)(?:\*\*)?(?:%| MB| ms)?<!-- figure: (.+?) -->")
# A cell of numbers starts with a number, or is a dash where there is none.
NUMERIC = re.compile(r"[+−-]?\d|–$")


def records() -> dict[str, dict]:
    stored = {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FIGURES.glob("*.json"))
    }
    return {name: record for name, record in stored.items() if "origin" in record}


def table(record: str, name: str) -> str:
    """One table of a record, columns of numbers to the right."""
    stored = records()[record]["tables"][name]
    rows, columns = stored["rows"], list(next(iter(stored["rows"].values())))
    right = [all(NUMERIC.match(cells[column]) for cells in rows.values()) for column in columns]
    lines = [[stored["rows are"], *columns], *([label, *cells.values()] for label, cells in rows.items())]
    head, *body = [f"| {' | '.join(line)} |" for line in lines]
    rule = "|".join(["---", *("---:" if numbers else "---" for numbers in right)])
    return "\n".join([head.replace("|  |", "| |"), f"|{rule}|", *body])


def stored_figure(place: str) -> float:
    """The number at RECORD / TABLE / ROW / COLUMN, or at RECORD / FIGURE."""
    record, *keys = place.split(" / ")
    stored = records()[record]
    if len(keys) == 1:
        return float(stored["figures"][keys[0]])
    name, row, column = keys
    return number_of(stored["tables"][name]["rows"][row][column])


def number_of(cell: str) -> float:
    """The first number of a cell, such as 52.27 of "52.27 ± 0.62"."""
    number = re.search(r"[−-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?", cell)
    if number is None:
        raise ValueError(f"no number in {cell!r}")
    return float(number[0].replace("−", "-").replace(",", ""))


def differing_figures(text: str) -> list[str]:
    """The marked numbers of a page that are not the stored ones, to the digits shown and without their sign."""
    differing = []
    for shown, place in FIGURE.findall(text):
        digits = len(shown.partition(".")[2])
        stored = stored_figure(place)
        if round(abs(stored), digits) != float(shown.replace(",", "")):
            differing.append(f"{shown} stands for {stored} of {place}")
    return differing
