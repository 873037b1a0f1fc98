"""Walks as panels of columns: means with intervals of numbers, probabilities of labels and levels."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyro_lfm.evaluate.decoding.decoded_columns import DecodedColumn, ObservedColumn
from pyro_lfm.evaluate.decoding.decoded_rows import RowDecoder
from pyro_lfm.plots.style import (
    CLASSES,
    FAINT,
    GUIDES,
    INK,
    QUIET,
    as_words,
    folded,
    new_figure,
    on_a_page,
    set_heading,
    symbol,
)
from pyro_lfm.plots.walk_steps import Walk

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Inches of a panel, and of the names of walks at its left.
_WIDTH, _HEIGHT, _NAMES = 1.6, 1.2, 1.15
# Labels of a column that have a colour of their own; the others are one. The most characters of a line of a column's name.
_MOST, _LONGEST = 10, 20


def draw_columns(
    walks: list[Walk],
    decoder: RowDecoder,
    known: list[ObservedColumn],
    columns: Sequence[str] | int,
    title: str | None,
) -> Figure:
    """A row of panels for each walk, and a column of panels for each column of the rows.

    Columns that do not fit on a page side by side continue below, with all walks again.

    Args:
        known: the columns that may be shown, in their order.
        columns: the number of those that move most; names leave ``known`` as it is.
    """
    decoded = [walk.decoded(decoder) for walk in walks]
    cells = [{column.name: column.of(each) for column in known} for each in decoded]
    shown = _moved_most(known, cells, columns) if isinstance(columns, int) else known
    across, parts = on_a_page(len(shown), _WIDTH, _NAMES)
    blocks = [shown[across * part : across * (part + 1)] for part in range(parts)]
    heights = [0.45 + _HEIGHT * len(walks) + _room(block) for block in blocks]
    figure = new_figure(_NAMES + _WIDTH * across, sum(heights) + 0.45 + (0.35 if title else 0.0))
    places = figure.subfigures(parts, 1, squeeze=False, height_ratios=heights).ravel()
    for place, block in zip(places, blocks, strict=True):
        _draw_block(place, across, walks, block, cells)
    words = textwrap.fill(_words(walks, cells, shown), int(13 * figure.get_figwidth()))
    figure.supxlabel(words, color=QUIET, fontsize=9)
    set_heading(figure, title)
    return figure


def _draw_block(
    place: SubFigure,
    across: int,
    walks: list[Walk],
    shown: list[ObservedColumn],
    cells: list[dict[str, DecodedColumn]],
) -> None:
    """All walks of the columns that fit on a page side by side."""
    grid = place.subplots(len(walks), across, squeeze=False, sharey="col", sharex="row")
    for unused in grid[:, len(shown) :].flat:
        unused.remove()
    for i, walk in enumerate(walks):
        for j, column in enumerate(shown):
            _panel(grid[i, j], walk, column, cells[i][column.name])
            _steps(grid[i, j], walk, i == len(walks) - 1 or walk.ticks != walks[i + 1].ticks)
        _name_walk(grid[i, 0], walk)
    for j, column in enumerate(shown):
        last = cells[-1][column.name]
        grid[0, j].set_title(folded(column.name, _LONGEST), color=INK, fontsize=9.5, loc="left")
        if last.probabilities is not None:
            _legend(grid[-1, j], column, last.probabilities.cpu().numpy())


def _room(shown: list[ObservedColumn]) -> float:
    """Inches for the labels below the panels."""
    return 0.19 * max((min(len(column.labels or ()), _MOST) for column in shown), default=0)


def _moved_most(
    known: list[ObservedColumn], cells: list[dict[str, DecodedColumn]], most: int
) -> list[ObservedColumn]:
    """The columns that the walks move most, in the order of the rows."""
    effects = {column.name: max(effect_of(column, each[column.name]) for each in cells) for column in known}
    chosen = sorted(effects, key=lambda name: -effects[name])[:most]
    return [column for column in known if column.name in chosen]


def effect_of(column: ObservedColumn, decoded: DecodedColumn) -> float:
    """How far a walk moves a column: in standard deviations of the column, or in probability."""
    if decoded.probabilities is not None:
        moved = decoded.probabilities - decoded.probabilities[:1]
        return float(0.5 * moved.abs().sum(1).max())
    spread = column.spread if np.isfinite(column.spread) and column.spread > 0 else 1.0
    return float(decoded.mean.max() - decoded.mean.min()) / (2 * spread)


def _panel(ax: Axes, walk: Walk, column: ObservedColumn, decoded: DecodedColumn) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(FAINT)
    ax.tick_params(colors=QUIET, labelsize=9, length=0)
    ax.set_axisbelow(True)
    if decoded.probabilities is not None:
        _probabilities(ax, column, decoded.probabilities.cpu().numpy())
    else:
        _intervals(ax, decoded, not walk.is_of_labels)


def _intervals(ax: Axes, decoded: DecodedColumn, joined: bool) -> None:
    """The mean of each step, on a bar from the lower to the upper end of its interval; steps in order have a line."""
    mean, lower, upper = (part.cpu().numpy() for part in (decoded.mean, decoded.lower, decoded.upper))
    places = np.arange(len(mean))
    ax.bar(places, upper - lower, bottom=lower, width=0.7, color=GUIDES[5], alpha=0.45, linewidth=0)
    ax.plot(places, mean, "o-" if joined else "o", color=GUIDES[0], markersize=3.2, linewidth=1.2)
    ax.use_sticky_edges = False
    ax.grid(axis="y", color=FAINT, linewidth=0.6)
    ax.locator_params(axis="y", nbins=4)


def _probabilities(ax: Axes, column: ObservedColumn, probabilities: np.ndarray) -> None:
    """The probabilities of the labels, stacked; the most probable ones where there are many."""
    places, bottom = np.arange(len(probabilities)), np.zeros(len(probabilities))
    for shade, codes in _shades(column, probabilities):
        height = probabilities[:, codes].sum(1)
        ax.bar(places, height, bottom=bottom, width=0.9, color=shade, linewidth=0)
        bottom = bottom + height
    ax.set_ylim(0, 1)
    ax.set_yticks([0, 0.5, 1], ["0", "½", "1"])


def _shades(column: ObservedColumn, probabilities: np.ndarray) -> list[tuple[str, list[int]]]:
    """The colours of labels and the codes that have each: of levels light to dark, of categories different ones."""
    count = probabilities.shape[1]
    if column.kind == "ordinal":
        return [(_level(code / max(1, count - 1)), [code]) for code in range(count)]
    if count <= _MOST:
        return [(CLASSES[code], [code]) for code in range(count)]
    first = sorted(np.argsort(-probabilities.max(0))[: _MOST - 1].tolist())
    rest = [code for code in range(count) if code not in first]
    return [*((CLASSES[place], [code]) for place, code in enumerate(first)), (FAINT, rest)]


def _level(share: float) -> str:
    """A blue, the darker the higher the level."""
    light, dark = np.array([0.87, 0.92, 0.97]), np.array([0.03, 0.27, 0.50])
    red, green, blue = (255 * (light + share * (dark - light))).round().astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"


def _steps(ax: Axes, walk: Walk, is_last: bool) -> None:
    """The names of the steps below the last row of panels with these steps."""
    count = len(walk.ticks)
    places = [*range(count)] if count <= 3 else sorted({0, count // 2, count - 1})
    ax.set_xticks(places, [walk.ticks[i] for i in places] if is_last else [""] * len(places), fontsize=9)
    ax.set_xlim(-0.6, count - 0.4)
    if walk.at_row is not None:
        ax.axvline(walk.at_row, color=GUIDES[4], linewidth=1.0, linestyle=":", zorder=5)


def _name_walk(ax: Axes, walk: Walk) -> None:
    name = symbol(walk.name) if walk.label is None else f"{symbol(walk.name)}, {walk.label}"
    share = "" if walk.share is None else f"\nR² {walk.share_text}"
    ax.set_ylabel(f"{name}{share}", color=INK, fontsize=10, rotation=0, ha="right", va="center", labelpad=10)


def _legend(ax: Axes, column: ObservedColumn, probabilities: np.ndarray) -> None:
    """The labels of a column below its last panel, the uppermost of a bar first."""
    from matplotlib.patches import Patch

    labels = [str(label) for label in column.labels or range(probabilities.shape[1])]
    entries = [
        Patch(color=shade, label=as_words(labels[codes[0]] if len(codes) == 1 else f"{len(codes)} others"))
        for shade, codes in _shades(column, probabilities)
        if codes
    ]
    ax.legend(
        handles=entries[::-1], loc="upper left", bbox_to_anchor=(-0.04, -0.22), frameon=False, fontsize=9, labelcolor=INK,
        handlelength=0.9, handleheight=0.9, handletextpad=0.5, borderaxespad=0.0, labelspacing=0.25,
    )  # fmt: skip


def _words(walks: list[Walk], cells: list[dict[str, DecodedColumn]], shown: list[ObservedColumn]) -> str:
    """What the steps, the bars and the dotted line are."""
    words = ", ".join(dict.fromkeys(walk.axis for walk in walks))
    if any(cells[0][column.name].probabilities is None for column in shown):
        words += "; dots are means, bars hold 90% of p(x\N{NO-BREAK SPACE}|\N{NO-BREAK SPACE}z)"
    if any(cells[0][column.name].probabilities is not None for column in shown):
        words += "; heights are probabilities"
    return words + "; dotted: the row itself" * any(walk.at_row is not None for walk in walks)
