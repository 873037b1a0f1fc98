"""Maps of the latent space in the plane."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyro_lfm.errors import ShapeError
from pyro_lfm.evaluate.inputs import Array
from pyro_lfm.plots.style import (
    CLASSES,
    FAINT,
    INK,
    QUIET,
    as_numbers,
    colours,
    new_figure,
    one_or_by_name,
    set_heading,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def latent_map(
    means: Array | Mapping[str, Array],
    labels: Array,
    *,
    names: Sequence[str] | None = None,
    title: str | None = "The latent space, coloured by label",
) -> Figure:
    """Posterior means of rows in the plane, coloured by label, with the name of each class at the median of its rows.

    More than two factors are projected onto their first two principal components. With one factor each class has a line of
    its own, and the height within a line has no meaning.

    Args:
        means: (N, K), or {guide: (N, K)} for a panel each. (N,) is one factor.
        labels: (N,) integers, 0 to C − 1.
        names: the names of the classes, by default their numbers.

    >>> import torch
    >>> figure = latent_map(torch.randn(30, 5), torch.arange(30) % 3, names=["ant", "bee", "cat"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['ant', 'bee', 'cat']
    """
    named = one_or_by_name("means", means, "{'full': fit.posterior(data).mean}")
    classes = as_numbers("labels", labels, "data.y")
    if classes.ndim != 1 or (classes != np.floor(classes)).any() or (classes < 0).any():
        raise ShapeError(f"labels must be whole numbers from 0, one for each row; got shape {classes.shape}")
    classes = classes.astype(int)
    if names is not None and classes.max() >= len(names):
        raise ShapeError(f"names must name {classes.max() + 1} classes; got {len(names)}")
    columns = min(2, len(named))
    rows = math.ceil(len(named) / columns)
    figure = new_figure(4.2 * columns, 4.2 * rows + 0.3)
    shades = colours(named)
    for place, (name, values) in enumerate(named.items()):
        argument = name or "means"
        numbers = as_numbers(argument, values, "fit.posterior(data).mean")
        if numbers.ndim == 1:
            numbers = numbers[:, None]
        if numbers.ndim != 2 or not numbers.size:
            raise ShapeError(f"{argument} must have shape (N, K), or (N,) of one factor; got {numbers.shape}")
        if len(numbers) != len(classes):
            raise ShapeError(f"labels must have shape ({len(numbers)},), one per row; got {classes.shape}")
        ax = figure.add_subplot(rows, columns, place + 1)
        points, share = _lines(numbers, classes) if numbers.shape[1] == 1 else _plane(numbers)
        _scatter(ax, points, classes, names)
        if numbers.shape[1] == 1:
            ax.set_aspect("auto")
            ax.set_xlabel("the factor; a line for each class", color=QUIET, fontsize=8)
        if name:
            ax.set_title(name, color=shades[place], fontsize=11, loc="left")
        if share is not None:
            ax.set_xlabel(
                f"first two principal components, {share:.0%} of the variance", color=QUIET, fontsize=8
            )
    set_heading(figure, title)
    return figure


def _lines(values: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, None]:
    """Points (N, 2) of one factor: the first class on top, rows of a class with random heights that separate them."""
    apart = np.random.default_rng(0).uniform(-0.3, 0.3, len(values))
    return np.stack([values[:, 0], apart - classes], 1), None


def _plane(values: np.ndarray) -> tuple[np.ndarray, float | None]:
    """Points (N, 2), and for a projection the share of the variance in it."""
    if values.shape[1] == 2:
        return values, None
    centred = values - values.mean(0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    # The largest entry of each axis is made positive, so that maps do not flip from run to run.
    axes = axes[:2] * np.sign(np.take_along_axis(axes[:2], np.abs(axes[:2]).argmax(1)[:, None], 1))
    points = centred @ axes.T
    # A single row has one axis, with its point at 0.
    points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    total = float((sizes**2).sum())
    return points, float((sizes[:2] ** 2).sum()) / total if total > 0 else None


def _scatter(ax: Axes, points: np.ndarray, classes: np.ndarray, names: Sequence[str] | None) -> None:
    from matplotlib.patheffects import withStroke

    size = float(np.clip(16000 / len(points), 8, 22))
    shades = np.array([CLASSES[c % len(CLASSES)] for c in classes])
    # In random order, so that no class covers all others.
    order = np.random.default_rng(0).permutation(len(points))
    ax.scatter(points[order, 0], points[order, 1], c=shades[order], s=size, linewidths=0, alpha=0.75)
    distinct = np.unique(classes)
    places = np.stack([np.median(points[classes == c], axis=0) for c in distinct])
    for c, (x, y) in zip(distinct, _apart(places, np.ptp(points, axis=0)), strict=True):
        ax.text(
            x,
            y,
            names[c] if names is not None else str(c),
            color=INK,
            fontsize=9,
            fontweight="bold",
            ha="center",
            va="center",
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_color(FAINT)


def _apart(places: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """Positions of names, moved up and down a little until no name covers another."""
    places, room = places.copy(), np.array([0.12, 0.04]) * extent
    for _ in range(100):
        moved = False
        for i in range(len(places)):
            for j in range(i):
                step = places[i] - places[j]
                if (np.abs(step) < room).all():
                    push = (room[1] - abs(step[1])) / 2 + 1e-3 * room[1]
                    direction = 1 if step[1] >= 0 else -1
                    places[i, 1] += direction * push
                    places[j, 1] -= direction * push
                    moved = True
        if not moved:
            break
    return places
