"""The share of each observed variable that each factor explains, as a map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyro_lfm.evaluate import VarianceExplained
from pyro_lfm.evaluate.decoding.factor_order import Order, places_by
from pyro_lfm.plots.style import (
    FAINT,
    GUIDES,
    INK,
    PAGE,
    QUIET,
    as_array,
    new_figure,
    of_kind,
    on_a_page,
    set_heading,
    symbol,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage


def variance_explained(
    result: VarianceExplained, *, order: Order = "variance", title: str | None = "Variance explained"
) -> Figure:
    """A map of R² for each group of rows, factors by observed variables, below bars of the R² of all factors together.

    A share below zero is drawn as zero and written as it is. Cells of more than 21 variables have no numbers.

    Args:
        result: of ``lfm.evaluate.variance_explained``.
        order: of the factors: "variance" has those first that explain most of all observed variables. The others are
            "declared" and names.

    Raises:
        DeclarationError: an order that is none.

    >>> import torch
    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear()))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear()))
    >>> shares = lfm.evaluate.variance_explained((model, guide), torch.randn(20, 4))
    >>> len(lfm.plots.variance_explained(shares).axes)  # bars, the map, its scale
    3
    """
    result = of_kind(result, VarianceExplained, "lfm.evaluate.variance_explained")
    places = places_by(order, result.factors, result.order)
    views, factors, groups = list(result.total), [result.factors[k] for k in places], len(result.groups)
    alone = np.stack(
        [100 * as_array(result.alone[name])[:, places] for name in views], 2
    )  # groups, factors, views
    total = np.stack([100 * as_array(result.total[name]) for name in views], 1)
    error = np.stack([100 * as_array(result.total_error[name]) for name in views], 1)
    cell = 0.34 if len(factors) > 6 else 0.42
    longest = max(map(len, views))
    turned = longest * 0.085 > 0.8
    width = max(1.5, 0.85 * len(views))
    columns, rows = on_a_page(groups, width, margin=1.9)
    height = 1.8 + cell * len(factors) + (0.07 * longest if turned else 0.0)
    figure = new_figure(1.9 + width * columns, 0.5 + height * rows)
    grid = figure.subplots(
        2 * rows, columns, squeeze=False, sharex="col", sharey="row",
        height_ratios=[1.1, cell * len(factors)] * rows,
    )  # fmt: skip
    for g, name in enumerate(result.groups):
        bars, ax = grid[2 * (g // columns) : 2 * (g // columns) + 2, g % columns]
        _draw_bars(bars, total[g], error[g])
        if groups > 1:
            bars.set_title(str(name), color=INK, fontsize=10.5, loc="left")
        # Cells of many variables have room for fewer digits.
        room = (PAGE - 1.9) / len(views)
        digits = 1 if room > 0.42 else 0 if room > 0.26 else None
        picture = _draw_map(ax, alone[g], max(1.0, float(np.nanmax(alone, initial=0.0))), digits)
        ax.set_xticks(np.arange(len(views)), views, color=INK, fontsize=9, rotation=90 if turned else 0)
        ax.tick_params(labelbottom=True)
    for unused in grid[-2:, groups - columns * (rows - 1) :].flat:
        unused.remove()
    for bars, ax in zip(grid[::2, 0], grid[1::2, 0], strict=True):
        ax.set_yticks(range(len(factors)), [symbol(name) for name in factors], color=INK, fontsize=9)
        bars.set_ylabel("all, %", color=QUIET, fontsize=9)
    maps = [ax for ax in figure.axes if ax.images]
    bar = figure.colorbar(picture, ax=maps, fraction=0.05, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=QUIET, labelsize=9, length=0)
    bar.set_label("one factor, %", color=QUIET, fontsize=9)
    set_heading(figure, title)
    return figure


def _draw_bars(ax: Axes, total: np.ndarray, error: np.ndarray) -> None:
    """Bars of the R² of all factors, one for each observed variable, in percent."""
    ax.spines[["top", "right", "left", "bottom"]].set_visible(False)
    places, heights = np.arange(len(total)), np.clip(np.nan_to_num(total), 0, None)
    ax.bar(places, heights, width=0.6, color=GUIDES[0])
    ax.errorbar(places, heights, yerr=np.nan_to_num(error), fmt="none", ecolor=INK, elinewidth=0.8)
    ax.set_ylim(0, 100)
    ax.tick_params(colors=QUIET, labelsize=9, length=0, labelbottom=False)
    ax.grid(axis="y", color=FAINT, linewidth=0.6)
    ax.set_axisbelow(True)


def _draw_map(ax: Axes, alone: np.ndarray, top: float, digits: int | None) -> AxesImage:
    """The map of one group of rows, R² (factors, views) in percent, with each number in its cell unless digits is None."""
    shown = np.clip(np.nan_to_num(alone), 0, None)
    picture = ax.imshow(shown, cmap="Blues", vmin=0, vmax=top, aspect="auto")
    for (k, v), share in np.ndenumerate(alone if digits is not None else alone[:0]):
        rounded = f"{round(share, digits) + 0.0:.{digits}f}"
        number = "–" if np.isnan(share) else rounded.replace("-", "−")
        colour = "white" if shown[k, v] > 0.6 * top else INK
        ax.text(v, k, number, color=colour, fontsize=9, ha="center", va="center")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return picture
