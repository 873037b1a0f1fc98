"""A factor solution as text, in the layout of ``print(fa(...), sort=TRUE)`` of R's psych: for ``FactorSolution``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyro_lfm.factor_analysis.indices_of_fit import FitIndices
from pyro_lfm.shapes import number, whole

if TYPE_CHECKING:
    from pandas import DataFrame

    from pyro_lfm.factor_analysis.factor_solution import FactorSolution

# The most characters of a column's name.
_LONGEST = 32


def loadings_text(solution: FactorSolution, blank: float, sort: bool, digits: int) -> str:
    """The table of loadings; see ``FactorSolution.table``."""
    blank, digits = number("blank", blank, least=0.0), whole("digits", digits)
    values = solution.loadings.to_numpy()
    order = _sorted(values) if sort else np.arange(len(values))
    beside = [solution.communalities, solution.uniquenesses, solution.complexity]
    numbers = np.column_stack([values, *(np.asarray(series) for series in beside)])
    texts = [
        [
            "" if place < values.shape[1] and abs(value) < blank else f"{value:.{digits}f}"
            for place, value in enumerate(row)
        ]
        for row in numbers[order]
    ]
    names = [str(solution.columns[place])[:_LONGEST] for place in order]
    heads = [*solution.factors, "h2", "u2", "com"]
    return _aligned(["", *heads], [[name, *row] for name, row in zip(names, texts, strict=True)])


def _sorted(values: np.ndarray) -> np.ndarray:
    """Columns by the factor of their largest loading, and within it by the size of that loading."""
    sizes = np.abs(values)
    return np.lexsort((-sizes.max(1), sizes.argmax(1)))


def report(solution: FactorSolution, indices: FitIndices | None) -> str:
    """The solution with its table, variances, factor correlations and indices of fit."""
    several = len(solution.factors) > 1
    by = f", fitted by {solution.estimation}" if solution.estimation else ""
    turned = f", {solution.rotation} rotation" if solution.rotation else ", unrotated"
    turned = turned if several and solution.parameters.axes_free else ""
    parts = [
        f"Factor analysis of {len(solution.columns)} columns with {len(solution.factors)} factor{'s' * several}{turned}{by}",
        "Standardised loadings (pattern matrix), those below 0.3 left blank; h2 communality, u2 uniqueness, com complexity",
        solution.table(),
        _numbers(solution.variance),
    ]
    correlations = solution.factor_correlations
    if several and not np.allclose(correlations, np.eye(len(correlations)), atol=1e-12):
        parts.append("Factor correlations\n" + _numbers(correlations))
    if solution.heywood:
        parts.append(f"Heywood case: no unique variance of {', '.join(map(str, solution.heywood))}")
    if indices is not None:
        parts.append(repr(indices))
    return "\n\n".join(parts)


def _numbers(frame: DataFrame) -> str:
    rows = [
        [str(name), *("" if np.isnan(value) else f"{value:.2f}" for value in values)]
        for name, values in zip(frame.index, frame.to_numpy(), strict=True)
    ]
    return _aligned(["", *map(str, frame.columns)], rows)


def _aligned(head: list[str], rows: list[list[str]]) -> str:
    """Columns of text, the first to the left and the others to the right."""
    wide = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(
            [line[0].ljust(wide[0]), *(cell.rjust(w) for cell, w in zip(line[1:], wide[1:], strict=True))]
        )
        for line in [head, *rows]
    ]
    return "\n".join(line.rstrip() for line in lines)
