"""Densities q(z | x) of one latent for a few rows, over the exact posterior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pyro_lfm.errors import ShapeError
from pyro_lfm.evaluate.inputs import Array
from pyro_lfm.plots.style import (
    FAINT,
    INK,
    QUIET,
    as_numbers,
    as_words,
    bare_axes,
    by_name,
    colours,
    new_figure,
    set_heading,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def densities(
    heights: Mapping[str, Array],
    points: Array,
    *,
    exact: Array | None = None,
    rows: Sequence[str] = (),
    title: str | None = "q(z | x) of each guide, over the exact p(z | x), grey",
) -> Figure:
    """Densities q(z | x) over a grid: a column for each row of data, a line of pictures for each guide.

    Args:
        heights: {guide: its density at every point for each row, (G, R)}.
        points: the grid, (G,).
        exact: the density of the exact posterior, (G, R), drawn as a grey area.
        rows: the names of the R rows.

    Raises:
        ShapeError: densities of another shape.

    >>> import torch
    >>> grid = torch.linspace(-3, 3, 50)
    >>> normal = torch.distributions.Normal(0.0, 1.0).log_prob(grid).exp()[:, None]
    >>> len(densities({"Gaussian": normal}, grid, exact=normal).axes)
    1
    """
    example = "distribution.log_prob(points).exp()"
    named = by_name("heights", heights, "{'full': density}")
    arrays = {name: as_numbers(name, value, example) for name, value in named.items()}
    grid = as_numbers("points", points, "torch.linspace(-3, 3, 100)")
    known = None if exact is None else as_numbers("exact", exact, example)
    shapes = {array.shape for array in [*arrays.values(), *([] if known is None else [known])]}
    if len(shapes) != 1 or next(iter(shapes))[:1] != grid.shape or len(next(iter(shapes))) != 2:
        raise ShapeError(
            f"densities must have shape ({len(grid)}, R), a row for each point; got {sorted(shapes)}"
        )
    count = next(iter(shapes))[1]
    # Names are written above the panels, because names of guides are long.
    figure = new_figure(0.5 + 2.5 * count, 0.7 + 1.35 * len(arrays))
    axes = figure.subplots(len(arrays), count, sharex=True, sharey="col", squeeze=False)
    for line, ((name, height), colour) in enumerate(zip(arrays.items(), colours(arrays), strict=True)):
        for column, ax in enumerate(axes[line]):
            bare_axes(ax)
            ax.set_yticks([])
            if known is not None:
                ax.fill_between(grid, known[:, column], color=FAINT, linewidth=0)
            ax.plot(grid, height[:, column], color=colour, linewidth=1.6)
            ax.set_xlim(grid[0], grid[-1])
            ax.set_ylim(bottom=0)
        axes[line][0].set_title(as_words(name), color=colour, fontsize=10, loc="left", pad=3)
    for column, name in enumerate(rows):
        axes[0][column].set_title(name, color=INK, fontsize=10, loc="right", pad=3)
    for ax in axes[-1]:
        ax.set_xlabel("z", color=QUIET, fontsize=9)
    set_heading(figure, title)
    return figure
