"""Densities of one variable: what each guide says of a few rows, over what is known to be so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyro_lfm.errors import ShapeError
from pyro_lfm.plots.style import FAINT, INK, QUIET, as_numbers, by_name, colours, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def densities(
    points: Any,
    distributions: Mapping[str, Any],
    *,
    exact: Any = None,
    rows: Sequence[str] = (),
    title: str | None = "q(z | x) of each guide, over the exact p(z | x), grey",
) -> Figure:
    """Densities q(z | x) over a grid: a column for each row of data, a line of pictures for each guide.

    Args:
        points: the grid, (G,).
        distributions: guide -> its density at every point for each row, (G, R).
        exact: that of the exact posterior, (G, R), filled beneath.
        rows: what the R rows are called.

    Raises:
        ShapeError: densities of another shape.

    >>> import torch
    >>> grid = torch.linspace(-3, 3, 50)
    >>> normal = torch.distributions.Normal(0.0, 1.0).log_prob(grid).exp()[:, None]
    >>> len(densities(grid, {"Gaussian": normal}, exact=normal).axes)
    1
    """
    grid, named = (
        as_numbers("points", points, "torch.linspace(-3, 3, 100)"),
        by_name("distributions", distributions, "{'full': density}"),
    )
    heights = {
        name: as_numbers(name, value, "distribution.log_prob(points).exp()") for name, value in named.items()
    }
    known = None if exact is None else as_numbers("exact", exact, "distribution.log_prob(points).exp()")
    shapes = {array.shape for array in [*heights.values(), *([] if known is None else [known])]}
    if len(shapes) != 1 or next(iter(shapes))[:1] != grid.shape or len(next(iter(shapes))) != 2:
        raise ShapeError(
            f"densities must have shape ({len(grid)}, R), a row for each point; got {sorted(shapes)}"
        )
    count = next(iter(shapes))[1]
    # Named above the pictures, not beside them: names of guides are long.
    figure = new_figure(0.5 + 2.5 * count, 0.7 + 1.35 * len(heights))
    axes = figure.subplots(len(heights), count, sharex=True, sharey="col", squeeze=False)
    for line, (name, height, colour) in enumerate(
        zip(heights, heights.values(), colours(heights), strict=True)
    ):
        for column, ax in enumerate(axes[line]):
            ax.spines[["top", "right", "left"]].set_visible(False)
            ax.spines["bottom"].set_color(FAINT)
            ax.tick_params(colors=QUIET, labelsize=8.5, length=0)
            ax.set_yticks([])
            if known is not None:
                ax.fill_between(grid, known[:, column], color=FAINT, linewidth=0)
            ax.plot(grid, height[:, column], color=colour, linewidth=1.6)
            ax.set_xlim(grid[0], grid[-1])
            ax.set_ylim(bottom=0)
        axes[line][0].set_title(name, color=colour, fontsize=10, loc="left", pad=3)
    for column, words in enumerate(rows):
        axes[0][column].set_title(words, color=INK, fontsize=10, loc="right", pad=3)
    for ax in axes[-1]:
        ax.set_xlabel("z", color=QUIET, fontsize=9)
    if title:
        figure.suptitle(title, color=INK, fontsize=12, x=0.008, ha="left")
    return figure
