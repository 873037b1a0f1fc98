"""Posteriors of single rows over two factors: q(z | x) of each guide over the exact p(z | x)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.distributions import Distribution

from pyro_lfm.errors import ShapeError
from pyro_lfm.plots.style import (
    FAINT,
    INK,
    QUIET,
    as_array,
    bare_axes,
    by_name,
    colours,
    folded,
    grid_of,
    new_figure,
    on_a_page,
    set_heading,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def posterior_ellipses(
    posteriors: Mapping[str, tuple[Distribution, Distribution]],
    *,
    names: Sequence[str] | None = None,
    title: str | None = "q(z | x) of a few rows, filled, over the exact p(z | x), drawn as a line",
) -> Figure:
    """The posteriors of a few rows over two factors: q of each method over the exact posterior under the same model.

    Ellipses contain 39% and 86% of the mass of a Gaussian: one and two standard deviations.

    Args:
        posteriors: {method: (q, p)}, Gaussian distributions with batch shape (R,) and event shape (2,).
        names: the names of the R rows.

    >>> distribution = torch.distributions.MultivariateNormal(torch.zeros(1, 2), torch.eye(2))
    >>> len(posterior_ellipses({"full": (distribution, distribution)}).axes)
    1
    """
    posteriors = by_name("posteriors", posteriors, "{'full': (fit.posterior(rows), exact.posterior(rows))}")
    for name, pair in posteriors.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(map(_is_planar, pair)):
            raise ShapeError(
                f"{name} must be two Gaussian distributions of batch shape (R,) and event shape (2,)"
            )
    columns, rows = on_a_page(len(posteriors), 2.3, margin=0.6)
    figure = new_figure(0.6 + 2.6 * columns, 0.5 + 2.8 * rows)
    grid = grid_of(figure, len(posteriors), columns, rows)
    for ax, (name, (q, p)) in zip(grid, posteriors.items(), strict=True):
        bare_axes(ax)
        reach = np.zeros((0, 2))
        for row, shade in enumerate(colours(q.mean)):
            for distribution, colour in ((q, shade), (p, None)):
                reach = np.vstack([reach, _ellipses(ax, *_moments(distribution, row), colour)])
            if names is not None:
                x, y = _moments(q, row)[0].tolist()
                ax.annotate(names[row], (x, y), color=INK, fontsize=9, ha="center", va="center")
        _square(ax, reach)
        ax.axhline(0, color=FAINT, linewidth=0.6, zorder=0)
        ax.axvline(0, color=FAINT, linewidth=0.6, zorder=0)
        ax.set_title(folded(name, 26), color=INK, fontsize=10.5, loc="left")
        ax.set_xlabel("$z_1$", color=QUIET)
    for ax in grid[::columns]:
        ax.set_ylabel("$z_2$", color=QUIET)
    set_heading(figure, title)
    return figure


def _ellipses(ax: Axes, mean: np.ndarray, covariance: np.ndarray, colour: str | None) -> np.ndarray:
    """Draws the ellipses of a Gaussian, filled with a colour or as a line, and returns two corners around them, (2, 2)."""
    from matplotlib.patches import Ellipse

    sizes, axes = np.linalg.eigh(covariance)
    angle = math.degrees(math.atan2(axes[1, 1], axes[0, 1]))
    look: dict[str, Any] = {"edgecolor": INK, "facecolor": "none", "linewidth": 1.1}
    if colour is not None:
        look = {"facecolor": colour, "edgecolor": "none", "alpha": 0.4}
    for times in (2, 4):
        width, height = times * np.sqrt(sizes[1]), times * np.sqrt(sizes[0])
        ax.add_patch(Ellipse((mean[0], mean[1]), width, height, angle=angle, **look))
    far = 2 * np.sqrt(np.diag(covariance))
    return np.stack([mean - far, mean + far])


def _is_planar(distribution: Distribution) -> bool:
    return (
        isinstance(distribution, Distribution)
        and len(distribution.batch_shape) == 1
        and distribution.event_shape == (2,)
    )


def _moments(distribution: Distribution, row: int) -> tuple[np.ndarray, np.ndarray]:
    covariance = getattr(distribution, "covariance_matrix", None)
    covariance = torch.diag_embed(distribution.variance) if covariance is None else covariance
    return as_array(distribution.mean[row]), as_array(covariance[row])


def _square(ax: Axes, reach: np.ndarray) -> None:
    middle, half = (reach.max(0) + reach.min(0)) / 2, 0.56 * float(np.ptp(reach, axis=0).max())
    ax.set_xlim(middle[0] - half, middle[0] + half)
    ax.set_ylim(middle[1] - half, middle[1] + half)
    ax.set_aspect("equal")
