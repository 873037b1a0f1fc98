"""Walks as rows of pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyro_lfm.evaluate.decoding.decoded_rows import RowDecoder
from pyro_lfm.plots.mosaic import draw_mosaic, gutter, pictures_of
from pyro_lfm.plots.picture_rows import PictureRows
from pyro_lfm.plots.style import GUIDES, INK, QUIET, as_words, symbol
from pyro_lfm.plots.walk_steps import Walk

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Gaps between rows of pictures, in gutters: with ticks of their own below them, and without.
_WIDE, _NARROW = 2.6, 0.0
# Characters of the name of a step that fit below a picture.
_LONGEST = 10


def draw_pictures(walks: list[Walk], decoder: RowDecoder, pictures: PictureRows, title: str | None) -> Figure:
    """A row of pictures for each walk, and what the steps are called below them."""
    rows = [
        pictures_of(pictures.scaled(walk.means(decoder, pictures.variable)), None, pictures.variable)
        for walk in walks
    ]
    blocks = {_row_name(walk): row for walk, row in zip(walks, rows, strict=True)}
    apart = len({walk.ticks for walk in walks}) > 1
    shares = any(walk.share is not None for walk in walks)
    steps = max(len(row) for row in rows)
    figure = draw_mosaic(
        blocks, steps, title, [INK] * len(blocks), gap=_WIDE if apart else _NARROW, side=0.72,
        bottom=0.72 if apart else 0.5, right=0.55 if shares else 0.15,
    )  # fmt: skip
    ax = figure.axes[0]
    middles = ax.get_yticks()
    size, pitch = rows[0].shape[1:3], rows[0].shape[2] + gutter(rows[0])
    for walk, middle in zip(walks, middles, strict=True):
        if walk.at_row is not None:
            _frame(ax, walk.at_row * pitch, middle, size)
        if apart:
            _ticks_below(ax, walk, pitch, size, middle)
    _name_steps(ax, walks, pitch, size[1], apart)
    if shares:
        _write_shares(ax, walks, middles)
    return figure


def _row_name(walk: Walk) -> str:
    return symbol(walk.name) if walk.label is None else f"{symbol(walk.name)}, {walk.label}"


def _frame(ax: Axes, left: float, middle: float, size: tuple[int, int]) -> None:
    """A frame around the picture of the row from which the walks start."""
    from matplotlib.patches import Rectangle

    height, width = size
    corner = (left - 0.5, middle - height / 2)
    ax.add_patch(
        Rectangle(corner, width, height, fill=False, edgecolor=GUIDES[4], linewidth=1.6, clip_on=False)
    )


def _shown(walk: Walk) -> list[int]:
    """The steps whose names stand below the pictures: all where they are labels, else up to 5 evenly spaced ones."""
    count = len(walk.ticks)
    if walk.is_of_labels or count <= 5:
        return [*range(count)]
    return sorted({0, (count - 1) // 4, (count - 1) // 2, count - 1 - (count - 1) // 4, count - 1})


def _ticks_below(ax: Axes, walk: Walk, pitch: int, size: tuple[int, int], middle: float) -> None:
    height, width = size
    for i in _shown(walk):
        ax.text(
            i * pitch + width / 2 - 0.5, middle + height / 2 + 0.06 * height, _short(walk.ticks[i]), color=QUIET, fontsize=9,
            ha="center", va="top",
        )  # fmt: skip


def _name_steps(ax: Axes, walks: list[Walk], pitch: int, width: int, apart: bool) -> None:
    """The names of the steps, unless they stand below each row, and what they are."""
    if not apart:
        shown = _shown(walks[0])
        ax.set_xticks([i * pitch + width / 2 - 0.5 for i in shown])
        ax.set_xticklabels([_short(walks[0].ticks[i]) for i in shown], color=QUIET, fontsize=9)
    axes = [walk.axis for walk in walks if not (apart and walk.axis == walk.name)]
    words = ", ".join(dict.fromkeys(axes))
    if any(walk.at_row is not None for walk in walks):
        words += "; framed: the row itself"
    ax.set_xlabel(words, color=QUIET, fontsize=9, labelpad=18 if apart else 4)


def _short(text: str) -> str:
    return as_words(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")


def _write_shares(ax: Axes, walks: list[Walk], middles: np.ndarray) -> None:
    """R² of each factor at the right of its rows, the first of which has what it is above."""
    right = ax.get_xlim()[1]
    seen: set[str] = set()
    for walk, middle in zip(walks, middles, strict=True):
        if walk.share is not None and walk.name not in seen:
            ax.text(right, middle, f"  {walk.share_text}", color=QUIET, fontsize=9, ha="left", va="center")
            seen.add(walk.name)
    ax.text(right, ax.get_ylim()[1], "  R²", color=QUIET, fontsize=9, ha="left", va="bottom")
