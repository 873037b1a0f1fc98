"""The gap between log p(x) and its bound, iteration by iteration: log p = L + KL."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from pyro_lfm.plots.curves import Histories, History, histories_of
from pyro_lfm.plots.style import (
    FAINT,
    GUIDES,
    INK,
    QUIET,
    bare_axes,
    folded,
    grid_of,
    new_figure,
    on_a_page,
    set_heading,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LIKELIHOOD, _BOUND, _GAP = INK, GUIDES[0], GUIDES[1]
# Horizontal positions, log p(x) and L of one history.
Path = tuple[np.ndarray, np.ndarray, np.ndarray]


def bound_and_gap(
    histories: Histories,
    *,
    maximum: float | None = None,
    title: str | None = "log p(x) = L + KL(q ‖ p(z | x)) by iteration",
) -> Figure:
    """log p(x) and the bound L of each method by iteration, and between them the gap, KL(q ‖ p(z | x)).

    A history with E and M steps shows both: an M step raises log p above L, and an E step raises L to log p. The horizontal
    axis is logarithmic, so that the first iterations are visible. The vertical axis leaves out first iterations far below.

    Args:
        histories: as for ``bounds``. Records have epoch, log_likelihood and bound, nats per row, and step ("M" or "E")
            where there are two an epoch. ``EM`` and ``VariationalEM`` record both. For others a callback may add
            ``log_likelihood`` to the record.
        maximum: the maximum of log p, drawn as a line.

    >>> records = [{"epoch": i, "log_likelihood": -2.0 / (i + 1), "bound": -3.0 / (i + 1)} for i in range(4)]
    >>> [axes.get_title(loc="left") for axes in bound_and_gap({"SVI": records}).axes]
    ['SVI']
    """
    named = histories_of(histories, "log_likelihood", "bound")
    paths = {name: _path(history) for name, history in named.items()}
    top = max(float(likelihood.max()) for _, likelihood, _ in paths.values())
    top = top if maximum is None else max(top, maximum)
    columns, rows = on_a_page(len(paths), 2.1, margin=1.2)
    figure = new_figure(1.2 + max(2.5, 5.2 / columns) * columns, 0.6 + 2.9 * rows)
    grid = grid_of(figure, len(paths), columns, rows, sharey=True)
    for ax, (name, path) in zip(grid, paths.items(), strict=True):
        bare_axes(ax)
        if maximum is not None:
            ax.axhline(maximum, color=QUIET, linewidth=0.8, linestyle=(0, (1, 2)))
        _draw(ax, path)
        ax.set_title(folded(name, 26), color=INK, fontsize=10.5, loc="left")
        ax.set_xlabel("iteration" if "step" in named[name][-1] else "epoch", color=QUIET, fontsize=9)
        _name_steps(ax, named[name], path)
    grid[0].set_ylim(*_visible(paths, top))
    for ax in grid[::columns]:
        ax.set_ylabel("nats per row", color=QUIET)
    grid[-1].legend(
        loc="lower right", bbox_to_anchor=(1.0, 0.24), frameon=False, fontsize=9, labelcolor=QUIET
    )
    set_heading(figure, title)
    return figure


def _draw(ax: Axes, path: Path) -> None:
    x, likelihood, bound = path
    ax.fill_between(x, bound, likelihood, color=_GAP, alpha=0.45, linewidth=0, label="KL")
    ax.plot(x, likelihood, color=_LIKELIHOOD, linewidth=1.5, label="log p(x)")
    ax.plot(x, bound, color=_BOUND, linewidth=1.5, label="L")
    ax.set_xscale("log", base=2)
    ticks = [n for n in (0, 1, 3, 7, 15, 63, 255, 1023) if n + 1 <= x.max() * 1.01]
    ax.set_xticks([n + 1 for n in ticks], [str(n) for n in ticks])
    ax.minorticks_off()
    ax.grid(axis="y", color=FAINT, linewidth=0.6)
    last = likelihood[-1] - bound[-1]
    ax.text(
        0.97, 0.04, f"log p {_signed(likelihood[-1])}\nKL {last if last > 1e-9 else 0:.2g}", transform=ax.transAxes,
        ha="right", va="bottom", fontsize=9, color=QUIET, linespacing=1.5,
    )  # fmt: skip


def _signed(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")


def _path(history: History) -> Path:
    """Horizontal positions from 1, log p and L. An M step is placed half an iteration before its E step."""
    x = [record["epoch"] + 1 - 0.5 * (record.get("step") == "M") for record in history]
    keys = ("log_likelihood", "bound")
    likelihood, bound = (np.array([record[key] for record in history], dtype=float) for key in keys)
    return np.array(x, dtype=float), likelihood, bound


def _name_steps(ax: Axes, history: History, path: Path) -> None:
    """Writes M and E beside the first two steps of L."""
    x, _, bound = path
    for i, record in enumerate(history[1:3], 1):
        if record.get("step") in ("M", "E"):
            place = (math.sqrt(x[i - 1] * x[i]), (bound[i - 1] + bound[i]) / 2)
            ax.annotate(
                record["step"], place, xytext=(7, -4), textcoords="offset points", color=_BOUND,
                fontsize=9, fontweight="bold", va="top", ha="center",
            )  # fmt: skip


def _visible(paths: Mapping[str, Path], top: float) -> tuple[float, float]:
    """Vertical limits that show every L after the first eighth of its logarithmic axis."""
    lowest = min(float(bound[np.log(x) >= np.log(x[-1]) / 8].min()) for x, _, bound in paths.values())
    margin = 0.06 * (top - lowest) or 1.0
    return lowest - margin, top + margin
