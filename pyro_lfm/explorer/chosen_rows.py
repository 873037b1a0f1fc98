"""``summary``: how chosen rows differ from the others, column by column, for a lasso on the map."""

from __future__ import annotations

import numpy as np

from pyro_lfm.explorer.data_columns import DataColumn
from pyro_lfm.explorer.numbers_as_json import number
from pyro_lfm.web.refusal import Json

# Bars of the histogram of numbers, and the most columns that are compared.
_BARS, _COLUMNS = 20, 60


def summary(columns: list[DataColumn], chosen: np.ndarray, rows: int) -> dict[str, Json]:
    """The distribution of each column inside and outside of the chosen rows, those that differ most first.

    Columns differ by the total variation distance of the two histograms.

    Args:
        chosen: the places of the chosen rows, each once.
        rows: N.
    """
    inside = np.zeros(rows, dtype=bool)
    inside[chosen] = True
    compared = [_numbers(c, inside) if c.labels is None else _labels(c, inside) for c in columns]
    shown = sorted((pair for pair in compared if pair is not None), key=lambda pair: -pair[0])
    return {"count": int(inside.sum()), "columns": [answer for _, answer in shown[:_COLUMNS]]}


def _numbers(column: DataColumn, inside: np.ndarray) -> tuple[float, Json] | None:
    values = column.values()
    known = np.isfinite(values)
    if not known.any():
        return None
    numbers, within = values[known].astype(np.float64), inside[known]
    edges = np.histogram_bin_edges(numbers, _BARS)
    counts = [np.histogram(part, edges)[0] for part in (numbers[within], numbers[~within])]
    means = [
        float(part.mean()) if len(part) else float("nan") for part in (numbers[within], numbers[~within])
    ]
    spread = float(numbers.std())
    answer: Json = {
        "name": column.name,
        "kind": "number",
        "edges": [number(float(edge)) for edge in edges],
        "inside": _shares(counts[0]),
        "outside": _shares(counts[1]),
        "mean_inside": number(means[0]),
        "mean_outside": number(means[1]),
        "difference_sd": number((means[0] - means[1]) / spread) if spread > 0 else 0.0,
    }
    return _distance(*counts), answer


def _labels(column: DataColumn, inside: np.ndarray) -> tuple[float, Json] | None:
    values, labels = column.values(), column.labels or ()
    known = np.isfinite(values)
    if not known.any():
        return None
    codes, within = values[known].astype(int), inside[known]
    counts = [np.bincount(part, minlength=len(labels)) for part in (codes[within], codes[~within])]
    answer: Json = {
        "name": column.name,
        "kind": "category",
        "labels": [*labels],
        "inside": _shares(counts[0]),
        "outside": _shares(counts[1]),
    }
    return _distance(*counts), answer


def _shares(counts: np.ndarray) -> list[Json]:
    whole = max(1, int(counts.sum()))
    return [round(int(count) / whole, 6) for count in counts]


def _distance(inside: np.ndarray, outside: np.ndarray) -> float:
    """The total variation distance; 0 where one side is empty."""
    if not inside.sum() or not outside.sum():
        return 0.0
    return float(0.5 * np.abs(inside / inside.sum() - outside / outside.sum()).sum())
