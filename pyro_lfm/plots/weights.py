"""Loadings of several methods side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyro_lfm.errors import ShapeError
from pyro_lfm.evaluate.decoding.names_of_factors import entry_names
from pyro_lfm.evaluate.inputs import Array
from pyro_lfm.plots.style import (
    FAINT,
    INK,
    PAGE,
    QUIET,
    as_numbers,
    by_name,
    folded,
    grid_of,
    new_figure,
    on_a_page,
    set_heading,
    symbol,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

# The most methods that have a column of pictures each; the least side of a picture, in inches.
_METHODS, _LEAST = 6, 0.7


def loadings(
    weights: Mapping[str, Array],
    *,
    shape: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    factors: Sequence[str] | None = None,
    title: str | None = "Loadings: how each column of the data follows each factor",
) -> Figure:
    """The loadings W (D, K) of several methods side by side, blue for negative and red for positive.

    Args:
        weights: {method: W (D, K)}.
        shape: (H, W) of a picture whose pixels are the D columns, for one picture per factor. Without it, each method has a
            table of D rows and K columns.
        names: the names of the D columns, for the table.
        factors: the names of the K factors, z_1 to z_K by default.

    >>> import torch
    >>> figure = loadings({"EM": torch.randn(4, 2)}, names=["a", "b", "c", "d"])
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['a', 'b', 'c', 'd']
    """
    named = by_name("weights", weights, "{'EM': W}, W of shape (D, K)")
    arrays = {
        name: as_numbers(name, value, "lfm.evaluate.loadings(fit).mean") for name, value in named.items()
    }
    sizes = {array.shape for array in arrays.values()}
    if len(sizes) != 1 or len(next(iter(sizes))) != 2:
        raise ShapeError(f"weights must have one shape (D, K) for all methods; got {sorted(sizes)}")
    dim, count = next(iter(sizes))
    if factors is not None and len(factors) != count:
        raise ShapeError(f"factors must name the {count} factors; got {len(factors)} names")
    symbols = [symbol(name) for name in factors or entry_names("z", count)]
    if shape is not None and math.prod(shape) != dim:
        raise ShapeError(f"shape must have {dim} pixels, one per column; got {tuple(shape)}")
    largest = max(float(np.abs(array).max()) for array in arrays.values()) or 1.0
    if shape is None:
        figure, grid, picture = _tables(arrays, names, symbols, largest)
    else:
        figure, grid, picture = _pictures(arrays, shape, symbols, largest)
    bar = figure.colorbar(picture, ax=grid, fraction=0.04, pad=0.02, shrink=0.8)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=QUIET, labelsize=9, length=0)
    set_heading(figure, title)
    return figure


def _pictures(
    arrays: Mapping[str, np.ndarray], shape: Sequence[int], symbols: Sequence[str], largest: float
) -> tuple[Figure, list[Axes], AxesImage]:
    """One picture for each method and factor."""
    latent = next(iter(arrays.values())).shape[1]
    # Methods are columns where that makes the wider picture, else rows.
    across = latent < len(arrays) <= _METHODS
    margin = (0.9, 0.9) if across else (2.4, 0.5)
    # Factors that do not fit on a page side by side continue below.
    columns, lines = (len(arrays), 1) if across else on_a_page(latent, _LEAST, margin[0])
    down = latent if across else lines * len(arrays)
    side = min(1.15, (PAGE - margin[0]) / columns)
    figure = new_figure(margin[0] + side * columns, margin[1] + (side + 0.25 * (lines > 1)) * down)
    grid = figure.subplots(down, columns, squeeze=False)
    for i, (name, array) in enumerate(arrays.items()):
        block = grid[:, i] if across else grid[lines * i : lines * (i + 1)].ravel()
        own = block[:latent]
        for ax in block[latent:]:
            ax.remove()
        for k, ax in enumerate(own):
            picture = ax.imshow(array[:, k].reshape(shape), cmap="RdBu_r", vmin=-largest, vmax=largest)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_color(FAINT)
        if i == 0 or lines > 1:
            for ax, each in zip(own, symbols, strict=True):
                _name_factor(ax, each, across)
        if across:
            _name_column(own[0], name)
        else:
            own[0].set_ylabel(
                folded(name, 20), color=INK, fontsize=10, rotation=0, ha="right", va="center", labelpad=8
            )
    return figure, list(figure.axes), picture


def _tables(
    arrays: Mapping[str, np.ndarray], names: Sequence[str] | None, symbols: Sequence[str], largest: float
) -> tuple[Figure, list[Axes], AxesImage]:
    """A table of D rows and K columns for each method."""
    dim, latent = next(iter(arrays.values())).shape
    # Methods are compared side by side, with narrow columns where a page has many.
    columns, rows = on_a_page(len(arrays), 0.3 + 0.22 * latent, margin=2.4)
    width = min(0.6 + 0.35 * latent, (PAGE - 2.4) / columns)
    figure = new_figure(2.4 + width * columns, 0.4 + (0.6 + 0.24 * dim) * rows)
    grid = grid_of(figure, len(arrays), columns, rows, sharey=True)
    narrow = width < 0.3 * latent
    for ax, (name, array) in zip(grid, arrays.items(), strict=True):
        picture = ax.imshow(array, aspect="auto", cmap="RdBu_r", vmin=-largest, vmax=largest)
        _name_column(ax, name)
        ax.set_xticks(
            range(latent), symbols, color=INK, fontsize=9 if narrow else 11, rotation=90 if narrow else 0
        )
        ax.spines[:].set_color(FAINT)
        ax.tick_params(length=0)
    if names is not None:
        for ax in grid[::columns]:
            ax.set_yticks(range(dim), list(names), color=INK, fontsize=10)
    return figure, grid, picture


def _name_factor(ax: Axes, name: str, across: bool) -> None:
    """The name of a factor at its row, or above its column."""
    if across:
        ax.set_ylabel(name, color=INK, fontsize=10, rotation=0, ha="right", va="center", labelpad=8)
    else:
        ax.set_title(name, color=INK, fontsize=10)


def _name_column(ax: Axes, name: str) -> None:
    ax.set_title(name.replace(", ", ",\n"), color=INK, fontsize=9.5)
