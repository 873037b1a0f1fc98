"""Coverage of predictive intervals of imputed entries, against their level."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyro_lfm.errors import ShapeError
from pyro_lfm.evaluate import ImputationScores, NumberScores
from pyro_lfm.plots.style import FAINT, INK, QUIET, as_array, colours, new_figure, of_kind

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def interval_coverage(
    result: ImputationScores, *, title: str | None = "Hidden entries within their intervals"
) -> Figure:
    """Coverage minus the level for each numerical observed variable, with two standard errors.

    Intervals are right on the line, too narrow below it, and too wide above it.

    Args:
        result: of ``lfm.evaluate.imputation_scores``.

    Raises:
        ShapeError: a result of labels only, which have no intervals.

    >>> import torch, pyro_lfm as lfm
    >>> x = lfm.Gaussian(3, mean=lfm.Linear(), covariance=lfm.Isotropic())
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=x)
    >>> scores = lfm.evaluate.imputation_scores((model, lfm.ExactPosterior(model)), torch.randn(30, 3), draws=20)
    >>> interval_coverage(scores).axes[0].get_xlabel()
    'level of the interval, %'
    """
    result = of_kind(result, ImputationScores, "lfm.evaluate.imputation_scores")
    numbers = {n: s for n, s in result.variables.items() if isinstance(s, NumberScores)}
    if not numbers:
        raise ShapeError(
            f"result has no intervals: {', '.join(result.variables)} are labels, which have no order"
        )
    figure = new_figure(5.6, 3.6)
    ax = figure.add_subplot()
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(FAINT)
    ax.tick_params(colors=QUIET, labelsize=9, length=0)
    ax.axhline(0, color=INK, linewidth=0.8)
    levels = np.array(next(iter(numbers.values())).levels)
    largest = 2.0
    for i, ((name, scores), colour) in enumerate(zip(numbers.items(), colours(numbers), strict=True)):
        # Side by side, so that error bars do not hide each other.
        places = 100 * levels + 0.9 * (i - (len(numbers) - 1) / 2)
        off = 100 * (as_array(scores.coverage) - levels)
        error = 200 * np.nan_to_num(as_array(scores.coverage_error))
        ax.errorbar(
            places, off, yerr=error, fmt="o", color=colour, markersize=5, elinewidth=1.2,
            label=f"{name}, {scores.entries} entries",
        )  # fmt: skip
        largest = max(largest, float((np.abs(off) + error).max()))
    ax.set_ylim(-1.15 * largest, 1.15 * largest)
    ax.set_xticks(100 * levels, [f"{100 * level:g}" for level in levels])
    ax.margins(x=0.06)
    ax.set_xlabel("level of the interval, %", color=QUIET)
    ax.set_ylabel("coverage minus level, %", color=QUIET)
    ax.grid(axis="y", color=FAINT, linewidth=0.6)
    ax.set_axisbelow(True)
    figure.legend(
        loc="outside lower center", ncols=min(3, len(numbers)), frameon=False, fontsize=9, labelcolor=QUIET
    )
    if title:
        ax.set_title(title, color=INK, fontsize=12, loc="left", pad=10)
    return figure
