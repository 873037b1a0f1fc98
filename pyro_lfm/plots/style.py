"""The look that all pictures share: colours, figures without global state, plain axes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Okabe and Ito's palette (2008), told apart by every kind of colour vision; yellow is left out: too light on white.
GUIDES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
# Petroff's ten colours (2021) for classes.
CLASSES = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
    "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
INK, QUIET, FAINT = "#222222", "#767676", "#dddddd"


def colours(names: Iterable[str]) -> list[str]:
    """One colour per name, by its place.

    >>> colours(["mean-field", "full"])
    ['#0072B2', '#E69F00']
    """
    return [GUIDES[i % len(GUIDES)] for i, _ in enumerate(names)]


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'pyro_lfm[plot]'") from error
    return Figure(figsize=(width, height), dpi=150, layout=layout, facecolor="white")


def plain_axes(figure: Figure) -> Axes:
    ax = figure.add_subplot()
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(FAINT)
    ax.tick_params(colors=QUIET, labelsize=9, length=0)
    ax.set_axisbelow(True)
    return ax


def as_words(name: str) -> str:
    """A name as it stands, whose dollar signs enclose no formula.

    >>> as_words("$5")
    '\\\\$5'
    """
    return name.replace("$", r"\$")


def set_title(ax: Axes, title: str | None) -> None:
    if title:
        ax.set_title(title, color=INK, fontsize=12, loc="left", pad=10)


def as_array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
