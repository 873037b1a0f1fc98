"""The look that all pictures share: colours, figures without global state, plain axes. Arguments of pictures, checked."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import torch

from pyro_lfm.errors import DataError, DeclarationError, ShapeError
from pyro_lfm.evaluate.inputs import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = TypeVar("Kind")
Entry = TypeVar("Entry")

# Okabe and Ito's palette (2008), for every kind of colour vision, without its yellow, which is too light on white.
GUIDES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
# Petroff's ten colours (2021) for classes.
CLASSES = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
    "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
INK, QUIET, FAINT = "#222222", "#767676", "#dddddd"
# Inches of a page of text. A wider figure is shown smaller on it, with its type below 9 points.
PAGE = 7.6


def colours(names: Iterable[str]) -> list[str]:
    """One colour per name, by its place.

    >>> colours(["mean-field", "full"])
    ['#0072B2', '#E69F00']
    """
    return [GUIDES[i % len(GUIDES)] for i, _ in enumerate(names)]


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """An empty figure, size in inches, no wider than a page."""
    try:
        import matplotlib.figure  # noqa: F401, the one package that the next line needs

        from pyro_lfm.plots.notebook_figure import NotebookFigure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'pyro_lfm[plot]'") from error
    return NotebookFigure(figsize=(min(width, PAGE), height), dpi=150, layout=layout, facecolor="white")


def on_a_page(count: int, width: float, margin: float = 0.0) -> tuple[int, int]:
    """Columns and rows for panels of a width in inches, beside a margin: as few rows as fit on a page, equally full.

    >>> on_a_page(3, 2.4), on_a_page(4, 2.4)
    ((3, 1), (2, 2))
    """
    most = max(1, int((PAGE - margin) / width))
    rows = math.ceil(count / most)
    return math.ceil(count / rows), rows


def grid_of(figure: Figure, count: int, columns: int, rows: int, sharey: bool = False) -> list[Axes]:
    """The axes of so many panels, row by row; the last row may have fewer."""
    grid = figure.subplots(rows, columns, sharey=sharey, squeeze=False).ravel()
    for ax in grid[count:]:
        ax.remove()
    return list(grid[:count])


def folded(text: str, width: int) -> str:
    """A text in lines of so many characters, with its dollar signs escaped.

    >>> folded("a name of five words", 10)
    'a name of\\nfive words'
    """
    return "\n".join(textwrap.wrap(as_words(text), width, break_on_hyphens=False))


def folded_title(title: str, width: float) -> str:
    """A title in lines that fit into so many inches. Its formulas stay formulas."""
    return "\n".join(textwrap.wrap(title, max(1, int(width / 0.1)), break_on_hyphens=False))


def plain_axes(figure: Figure) -> Axes:
    """The only axes of a figure, with a baseline and no frame."""
    ax = figure.add_subplot()
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(FAINT)
    ax.tick_params(colors=QUIET, labelsize=9, length=0)
    ax.set_axisbelow(True)
    return ax


def as_words(name: str) -> str:
    """A name with its dollar signs escaped, so that they enclose no formula.

    >>> as_words("$5")
    '\\\\$5'
    """
    return name.replace("$", r"\$")


def symbol(name: str) -> str:
    """z_12 as mathematics. Other names stay as they are.

    >>> symbol("z_12"), symbol("dose")
    ('$z_{12}$', 'dose')
    """
    stem, _, number = name.rpartition("_")
    return f"${stem}_{{{number}}}$" if number.isdigit() and stem.isalpha() else as_words(name)


def set_title(ax: Axes, title: str | None) -> None:
    """A title on the left, if there is one."""
    if title:
        ax.set_title(title, color=INK, fontsize=12, loc="left", pad=10)


def set_heading(figure: Figure, title: str | None) -> None:
    """A title on the left above all axes of a figure, if there is one."""
    if title:
        figure.suptitle(
            folded_title(title, figure.get_figwidth()), color=INK, fontsize=12, x=0.008, ha="left"
        )


def bare_axes(ax: Axes) -> None:
    """Removes the frame of axes but for a faint baseline, and makes ticks small."""
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(FAINT)
    ax.tick_params(colors=QUIET, labelsize=9, length=0)
    ax.set_axisbelow(True)


def as_array(value: Array) -> np.ndarray:
    """A tensor or a sequence as a NumPy array."""
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def as_numbers(name: str, value: Array, example: str) -> np.ndarray:
    """An array of finite numbers.

    Args:
        name: the name of the argument.
        example: a right value, for the error message.

    Raises:
        ShapeError: not an array.
        DataError: entries that are no numbers, or not finite.
    """
    try:
        array = as_array(value)
        whole = array.ndim > 0 and array.dtype != object
    except (TypeError, ValueError, RuntimeError):
        whole = False
    if not whole:
        raise ShapeError(
            f"{name} must be a tensor or an array of numbers, such as {example}; got {type(value).__name__}"
        )
    if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
        raise DataError(f"{name} must hold finite numbers; got {array.dtype}, or NaN or infinite entries")
    return array


def of_kind(result: Kind, kind: type[Kind], function: str) -> Kind:
    """The result unchanged, if it is of the kind that a function returns.

    Raises:
        DeclarationError: another type.
    """
    if not isinstance(result, kind):
        raise DeclarationError(
            f"this picture is of a {kind.__name__}, as {function} gives it; got {type(result).__name__}"
        )
    return result


def by_name(name: str, value: Mapping[str, Entry], example: str) -> Mapping[str, Entry]:
    """A mapping with at least one entry, its keys as text.

    Raises:
        ShapeError: not a mapping, or an empty one.
    """
    if not isinstance(value, Mapping) or not value:
        got = "none" if isinstance(value, Mapping) else type(value).__name__
        raise ShapeError(f"{name} must be a mapping with names as its keys, such as {example}; got {got}")
    return {str(key): entry for key, entry in value.items()}


def one_or_by_name(name: str, value: Array | Mapping[str, Array], example: str) -> Mapping[str, Array]:
    """Arrays by name. A single array has the empty name."""
    return by_name(name, value, example) if isinstance(value, Mapping) else {"": value}
