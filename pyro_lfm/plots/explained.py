"""How much of each view each factor explains, as a map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyro_lfm.evaluate import VarianceExplained
from pyro_lfm.plots.style import FAINT, GUIDES, INK, QUIET, as_array, new_figure, of_kind, symbol

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def variance_explained(found: VarianceExplained, *, title: str | None = "Variance explained") -> Figure:
    """A map of R² for each group of rows, factors down and observed variables across, under bars of what all explain.

    Shares below zero are drawn as zero, and written as they are.

    Args:
        found: as ``lfm.evaluate.variance_explained`` gives it.

    >>> import torch
    >>> from pyro_lfm import Gaussian, Guide, Linear, Model, StandardNormal
    >>> from pyro_lfm.evaluate import variance_explained as explained
    >>> model = Model(z=StandardNormal(2), x=Gaussian(4, mean=Linear()))
    >>> parts = explained((model, Guide(model, z=Gaussian(mean=Linear()))), torch.randn(20, 4))
    >>> len(variance_explained(parts).axes)  # bars, the map, its scale
    3
    """
    found = of_kind(found, VarianceExplained, "lfm.evaluate.variance_explained")
    views, factors, groups = list(found.total), list(found.factors), len(found.groups)
    alone = np.stack([100 * as_array(found.alone[name]) for name in views], 2)  # groups, factors, views
    total = np.stack([100 * as_array(found.total[name]) for name in views], 1)
    error = np.stack([100 * as_array(found.total_error[name]) for name in views], 1)
    top = max(1.0, float(np.nanmax(alone, initial=0.0)))
    cell = 0.34 if len(factors) > 6 else 0.42
    longest = max(map(len, views))
    turned = longest * 0.085 > 0.8
    figure = new_figure(
        1.9 + groups * max(1.5, 0.85 * len(views)),
        2.3 + cell * len(factors) + (0.07 * longest if turned else 0.0),
    )
    grid = figure.subplots(
        2, groups, squeeze=False, sharex="col", sharey="row", height_ratios=[1.1, cell * len(factors)]
    )
    for g, name in enumerate(found.groups):
        bars, ax = grid[0, g], grid[1, g]
        bars.spines[["top", "right", "left", "bottom"]].set_visible(False)
        places = np.arange(len(views))
        heights = np.clip(np.nan_to_num(total[g]), 0, None)
        bars.bar(places, heights, width=0.6, color=GUIDES[0])
        bars.errorbar(places, heights, yerr=np.nan_to_num(error[g]), fmt="none", ecolor=INK, elinewidth=0.8)
        bars.set_ylim(0, 100)
        bars.tick_params(colors=QUIET, labelsize=8, length=0, labelbottom=False)
        bars.grid(axis="y", color=FAINT, linewidth=0.6)
        bars.set_axisbelow(True)
        if groups > 1:
            bars.set_title(str(name), color=INK, fontsize=10.5, loc="left")
            ax.set_title("", loc="left")
        shown = np.clip(np.nan_to_num(alone[g]), 0, None)
        picture = ax.imshow(shown, cmap="Blues", vmin=0, vmax=top, aspect="auto")
        for k in range(len(factors)):
            for v in range(len(views)):
                colour = "white" if shown[k, v] > 0.6 * top else INK
                words = (
                    "–"
                    if np.isnan(alone[g, k, v])
                    else f"{alone[g, k, v]:.1f}".replace("-0.0", "0.0").replace("-", "−")
                )
                ax.text(v, k, words, color=colour, fontsize=8, ha="center", va="center")
        ax.set_xticks(places, views, color=INK, fontsize=9, rotation=90 if turned else 0)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
    grid[1, 0].set_yticks(range(len(factors)), [symbol(name) for name in factors], color=INK, fontsize=9)
    grid[0, 0].set_ylabel("all, %", color=QUIET, fontsize=9)
    bar = figure.colorbar(picture, ax=grid[1], fraction=0.05, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=QUIET, labelsize=8, length=0)
    bar.set_label("one factor, %", color=QUIET, fontsize=9)
    if title:
        figure.suptitle(title, color=INK, fontsize=12, x=0.008, ha="left")
    return figure
