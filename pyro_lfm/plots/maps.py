"""Maps of the latent space, in the plane or in space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from pyro_lfm.errors import DeclarationError
from pyro_lfm.evaluate.inputs import Array, Rows
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.plots.map_axes import draw_plane, draw_space, write_key
from pyro_lfm.plots.map_colours import map_colours
from pyro_lfm.plots.map_points import MapPoints, map_points
from pyro_lfm.plots.style import PAGE, by_name, colours, folded, new_figure, on_a_page, set_heading

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def latent_map(
    means: Array | Fit | Mapping[str, Array | Fit],
    labels: Array,
    *,
    data: Rows | None = None,
    names: Sequence[str] | None = None,
    factors: Sequence[str] | None = None,
    dimensions: Literal[2, 3] = 2,
    colour: str | None = None,
    title: str | None = "The latent space",
) -> Figure:
    """Posterior means of rows in two or three dimensions, coloured by a label or by a number.

    More factors than dimensions are projected onto their first principal components, unless ``factors`` names some. With one
    factor each class has a line of its own, and the height within a line has no meaning. In the plane the name of each class
    stands at the median of its rows. Rows without a label are grey.

    Args:
        means: posterior means (N, K), (N,) of one factor, or a fit. Several by name have a panel each.
        labels: (N,) of the same rows: text or up to 20 whole numbers from 0 are classes, other numbers a scale.
        data: the rows of a fit, by default those that were fitted.
        names: the names of the classes 0 to C − 1.
        factors: the names of the factors on the axes, one for each dimension: z_1 to z_K of arrays.
        dimensions: 2 or 3.
        colour: what the labels are, for the key.

    Raises:
        ShapeError: means or labels of another shape.
        DeclarationError: unknown factors, or other dimensions.

    >>> import torch
    >>> figure = latent_map(torch.randn(30, 5), torch.arange(30) % 3, names=["ant", "bee", "cat"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['ant', 'bee', 'cat']
    >>> latent_map(torch.randn(30, 5), torch.randn(30), factors=["z_1", "z_4", "z_5"], dimensions=3).axes[0].get_zlabel()
    '$z_{5}$'
    """
    if dimensions not in (2, 3):
        raise DeclarationError(f"dimensions must be 2 or 3; got {dimensions!r}")
    given = (
        by_name("means", means, "{'full': fit.posterior(data).mean}")
        if isinstance(means, Mapping)
        else {"": means}
    )
    panels = {
        name: map_points(name or "means", each, data, factors, dimensions) for name, each in given.items()
    }
    rows = len(next(iter(panels.values())).points)
    coloured = map_colours(labels, rows, names, colour)
    for name, panel in panels.items():
        if len(panel.points) != rows:
            map_colours(labels, len(panel.points), names, name)
    # In space a panel needs the width of a page, as names stand around it.
    columns, lines = on_a_page(len(panels), 3.3 if dimensions == 2 else 5.0, margin=0.9)
    size = min(4.4 if dimensions == 2 else 5.0, (PAGE - 0.9) / columns)
    figure = new_figure(size * columns + 0.9, size * lines + 0.3)
    shades = colours(panels)
    for place, (name, panel) in enumerate(panels.items()):
        shown, width = (
            _with_lines(panel, coloured.values) if panel.points.shape[1] == 1 else (panel, dimensions)
        )
        if width == 2 or shown.points.shape[1] == 2:
            ax = figure.add_subplot(lines, columns, place + 1)
            draw_plane(ax, shown, coloured, equal=panel.points.shape[1] > 1)
        else:
            ax = figure.add_subplot(lines, columns, place + 1, projection="3d")
            draw_space(ax, shown, coloured)
        if name:
            ax.set_title(folded(name, 36), color=shades[place], fontsize=11, loc="left")
    write_key(figure, coloured, in_space=dimensions == 3)
    set_heading(figure, title)
    return figure


def _with_lines(panel: MapPoints, values: np.ndarray) -> tuple[MapPoints, int]:
    """Points (N, 2) of one factor: the first class on top, rows of a class with random heights that separate them."""
    apart = np.random.default_rng(0).uniform(-0.3, 0.3, len(values))
    codes = np.nan_to_num(values, nan=-1.0)
    line = codes if (codes == np.floor(codes)).all() else np.zeros(len(codes))
    points = np.stack([panel.points[:, 0], apart - line], 1)
    return MapPoints(points, (f"{panel.axes[0]}, with a line for each class", "")), 2
