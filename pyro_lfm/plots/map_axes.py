"""The drawing of maps: points in the plane and in space, names of classes, and the key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_lfm.plots.map_colours import MapColours
from pyro_lfm.plots.map_points import MapPoints
from pyro_lfm.plots.style import CLASSES, FAINT, INK, QUIET, as_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_plane(ax: Axes, panel: MapPoints, coloured: MapColours, equal: bool) -> None:
    """The points in the plane, with the names of classes at the medians of their rows.

    Args:
        equal: whether both axes have one scale.
    """
    _scatter(ax, panel.points, coloured, 0.75)
    if coloured.names is not None:
        _name_classes(ax, panel.points, coloured)
    if equal:
        ax.set_aspect("equal", adjustable="datalim")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_color(FAINT)
    ax.set_xlabel(panel.axes[0], color=QUIET, fontsize=9)
    ax.set_ylabel(panel.axes[1], color=QUIET, fontsize=9)


def draw_space(ax: Any, panel: MapPoints, coloured: MapColours) -> None:
    """The points in space, before pale walls; those further away are paler."""
    _scatter(ax, panel.points, coloured, 0.85)
    low, high = np.quantile(panel.points, [0.002, 0.998], axis=0)
    room = 0.06 * np.maximum(high - low, 1e-9)
    for axis, name, start, end in zip(
        (ax.xaxis, ax.yaxis, ax.zaxis), panel.axes, low - room, high + room, strict=True
    ):
        axis.set_pane_color((0.975, 0.975, 0.975, 1.0))
        axis.line.set_color(FAINT)
        axis._axinfo["grid"].update(color=FAINT, linewidth=0.5)
        axis._axinfo["tick"].update(inward_factor=0.0, outward_factor=0.0)
        axis.set_label_text(_broken(name), color=INK, fontsize=9)
        axis.labelpad = -10 if len(name) < 12 else -5
        axis.set_ticklabels([])
        axis.set_view_interval(start, end, ignore=True)
    ax.tick_params(length=0, pad=-2)
    ax.view_init(elev=22, azim=-56)
    ax.set_box_aspect(None, zoom=0.88)


def _broken(name: str) -> str:
    return name.replace(", ", ",\n")


def _scatter(ax: Any, points: np.ndarray, coloured: MapColours, alpha: float) -> None:
    """The points, in random order, so that no class covers all others; those without a label first."""
    size = float(np.clip(16000 / len(points), 5, 22))
    shades, markers = coloured.shades(), coloured.markers()
    order = np.random.default_rng(0).permutation(len(points))
    order = order[np.argsort(~np.isnan(coloured.values[order]), kind="stable")]
    for marker in dict.fromkeys(markers.tolist()):
        own = order[markers[order] == marker]
        ax.scatter(*points[own].T, c=shades[own], s=size, linewidths=0, alpha=alpha, marker=marker)


def _name_classes(ax: Axes, points: np.ndarray, coloured: MapColours) -> None:
    from matplotlib.patheffects import withStroke

    assert coloured.names is not None
    present = coloured.present
    if not present:
        return
    places = np.stack([np.median(points[coloured.values == code], axis=0) for code in present])
    for code, (x, y) in zip(present, _apart(places, np.ptp(points, axis=0)), strict=True):
        ax.text(
            x, y, as_words(coloured.names[code]), color=INK, fontsize=9, fontweight="bold", ha="center", va="center",
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )  # fmt: skip


def write_key(figure: Figure, coloured: MapColours, in_space: bool) -> None:
    """The key: a scale of numbers, or in space, where names cannot stand at the points, the classes."""
    if coloured.names is None:
        from matplotlib.cm import ScalarMappable

        bar = figure.colorbar(
            ScalarMappable(coloured.scale(), "viridis"),
            ax=figure.axes,
            fraction=0.035,
            pad=0.03,
            shrink=0.6,
            aspect=24,
        )
        bar.outline.set_visible(False)
        bar.ax.tick_params(colors=QUIET, labelsize=9, length=0)
        if coloured.title:
            bar.set_label(as_words(coloured.title), color=QUIET, fontsize=9)
    elif in_space and len(coloured.present) > 1:
        from matplotlib.lines import Line2D

        markers = {code: coloured.markers()[coloured.values == code][0] for code in coloured.present}
        handles = [
            Line2D([], [], marker=markers[code], linestyle="", markersize=6, color=CLASSES[code % len(CLASSES)],
                   label=as_words(coloured.names[code]))
            for code in coloured.present
        ]  # fmt: skip
        title = None if coloured.title is None else as_words(coloured.title)
        figure.legend(
            handles=handles, loc="outside right center", frameon=False, fontsize=9, labelcolor=INK, title=title,
            title_fontsize=9, handletextpad=0.3,
        )  # fmt: skip


def _apart(places: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """Positions of names, moved up and down a little until no name covers another."""
    places, room = places.copy(), np.array([0.12, 0.045]) * extent
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
