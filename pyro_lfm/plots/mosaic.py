"""Blocks of pictures below each other, drawn as one image. Used by ``plots.images``."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyro_lfm.errors import ShapeError
from pyro_lfm.evaluate.inputs import Array
from pyro_lfm.plots.style import PAGE, as_numbers, folded_title, new_figure, set_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Space between the pictures of a mosaic, as a fraction of a picture's width.
_GUTTER = 0.12
# The most characters of a line of a name.
_LONGEST = 18


def pictures_of(images: Array, shape: Sequence[int] | None, argument: str) -> np.ndarray:
    """Images as (N, H, W, 3) in [0, 1], dark ink on white for one channel; ``argument`` names them in error messages."""
    array = as_numbers(argument, images, "rows (N, D) of pixels").astype(float)
    if array.ndim == 2:
        if shape is None:
            raise ShapeError(
                f"{argument} are flat rows {array.shape}: give the picture's shape, as in shape=(28, 28)"
            )
        if array.shape[1] != math.prod(shape):
            raise ShapeError(
                f"{argument} must have {math.prod(shape)} columns for shape {tuple(shape)}; got {array.shape[1]}"
            )
        array = array.reshape(len(array), *shape)
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4 or array.shape[1] not in (1, 3) or not len(array):
        raise ShapeError(
            f"{argument} must be pictures (N, H, W) or (N, C, H, W) with one or three channels; got {array.shape}"
        )
    array = np.clip(array, 0, 1).transpose(0, 2, 3, 1)
    return np.repeat(1 - array, 3, axis=3) if array.shape[3] == 1 else array


def gutter(pictures: np.ndarray) -> int:
    """The space between pictures, in pixels."""
    return max(1, round(_GUTTER * pictures.shape[-2]))


def draw_mosaic(
    blocks: Mapping[str, np.ndarray],
    columns: int,
    title: str | None,
    shades: Sequence[str],
    *,
    gap: float = 1.5,
    bottom: float = 0.15,
    right: float = 0.15,
    side: float = 0.62,
) -> Figure:
    """Blocks of pictures below each other, each named at its left, as one image on one pair of axes.

    Args:
        blocks: {name: pictures (N, H, W, 3)}. columns: pictures in a row. shades: of the names.
        gap: between blocks, in gutters between pictures.
        bottom, right: margins, in inches.
        side: the longer side of a picture in inches, where a page has room for so many.
    """
    first = next(iter(blocks.values()))
    height, width = first.shape[1:3]
    between = gutter(first)
    extra = round(gap * between) if len(blocks) > 1 else 0
    counts = [math.ceil(len(pictures) / columns) for pictures in blocks.values()]
    columns = min(columns, max(len(pictures) for pictures in blocks.values()))
    tall = sum(counts) * (height + between) - between + extra * (len(blocks) - 1)
    canvas = np.ones((tall, columns * (width + between) - between, 3))
    top, middles = 0, []
    for pictures, count in zip(blocks.values(), counts, strict=True):
        for i, picture in enumerate(pictures):
            y, x = top + i // columns * (height + between), i % columns * (width + between)
            canvas[y : y + height, x : x + width] = picture
        middles.append(top + (count * (height + between) - between) / 2 - 0.5)
        top += count * (height + between) + extra
    names = ["\n".join(textwrap.wrap(name, _LONGEST, break_on_hyphens=False)) for name in blocks]
    left = 0.15 + _room(names)
    side = min(side / max(height, width), (PAGE - left - right) / canvas.shape[1])  # inches per pixel
    across, down = canvas.shape[1] * side, canvas.shape[0] * side
    title = title and folded_title(title, PAGE - left - right)
    lines = title.split("\n") if title else []
    top_margin = 0.15 + 0.1 * bool(lines) + 0.2 * len(lines)
    longest = max(map(len, lines), default=0)
    whole = left + min(max(across, 0.1 * longest), PAGE - left - right) + right, top_margin + down + bottom
    figure = new_figure(*whole, layout=None)
    ax = figure.add_axes((left / whole[0], bottom / whole[1], across / whole[0], down / whole[1]))
    ax.imshow(canvas, interpolation="nearest", aspect="auto")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.set_xticks([])
    if any(blocks):
        ax.set_yticks(middles, names)
        for tick, colour in zip(ax.get_yticklabels(), shades, strict=True):
            tick.set(color=colour, fontsize=10)
    else:
        ax.set_yticks([])
    set_title(ax, title)
    return figure


def _room(names: Sequence[str]) -> float:
    """Inches for names, some in several lines; of formulas the marks take no room."""
    lines = [line for name in names for line in name.split("\n")]
    longest = max((len(line.translate({ord(mark): None for mark in "${}_\\"})) for line in lines), default=0)
    return 0.14 + 0.085 * longest if longest else 0.0
