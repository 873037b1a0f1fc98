"""Pictures of a comparison: which differences are clear, and how the bounds rose by epoch and by second."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_lfm.comparison import Comparison, Estimate
from pyro_lfm.comparison.formats import signed
from pyro_lfm.comparison.metrics import NATS
from pyro_lfm.errors import DeclarationError
from pyro_lfm.plots.curves import end_labels
from pyro_lfm.plots.style import (
    FAINT,
    INK,
    QUIET,
    as_words,
    colours,
    new_figure,
    of_kind,
    plain_axes,
    set_title,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def differences(comparison: Comparison, metric: str | None = None, *, title: str | None = None) -> Figure:
    """How far each way lies from the baseline, paired by row and seed: a forest plot.

    A dot is the mean, the thick line one standard error to each side, the thin one two: where it crosses the baseline the
    difference is not clear. Hollow dots are single seeds, where there are several. A way that lies so far off that the
    others could not be told apart stands at the edge with an arrow.

    Args:
        comparison: as ``lfm.compare`` gives it.
        metric: by default the first.

    Raises:
        DeclarationError: an unknown metric, or nothing to compare with the baseline.

    >>> import pyro_lfm as lfm, torch
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> ways = {"EM": lfm.EM(), "variational EM": lfm.VariationalEM()}
    >>> found = lfm.compare(model, torch.randn(30, 3), ways, metrics="bound", progress=False)
    >>> differences(found).axes[0].get_xlabel()
    'bound over EM, nats per row'
    """
    comparison = of_kind(comparison, Comparison, "lfm.compare")
    name = next(iter(comparison.metrics)) if metric is None else metric
    every = {way: comparison.difference(name, way) for way in comparison.ways}
    shown = {way: d for way, d in every.items() if way != comparison.baseline and np.isfinite(d.mean)}
    if not np.isfinite(comparison.estimate(name, comparison.baseline).mean):
        raise DeclarationError(f"the baseline {comparison.baseline} has no {name} to take differences from")
    if not shown:
        raise DeclarationError(f"no way was measured beside the baseline {comparison.baseline}")
    low, high = _reach(list(shown.values()))
    longest = max(map(len, shown))
    figure = new_figure(5.6 + 0.085 * longest, 1.5 + 0.42 * len(shown))
    ax = plain_axes(figure)
    shades = dict(zip(comparison.ways, colours(comparison.ways), strict=True))
    for place, (way, found) in enumerate(shown.items()):
        _line(ax, place, found, shades[way], (low, high))
        per_seed = comparison.values[name][way] - comparison.values[name][comparison.baseline]
        inside = [d for d in per_seed.tolist() if low <= d <= high]
        if len(per_seed) > 1:
            ax.plot(
                inside, [place] * len(inside), "o", markersize=3.5, mfc="white", mec=shades[way], zorder=3
            )
        error = "" if np.isnan(found.error) else f" ± {_figures(found.error)}"
        number = f"{signed(found.mean, found.error)}{error}"
        ax.annotate(
            number + "  ", (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=9.5, color=INK
        )  # fmt: skip
    ax.axvline(0, color=QUIET, linewidth=1.0, zorder=0)
    ax.set_xlim(low, high)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_yticks(range(len(shown)), [as_words(way) for way in shown])
    ax.tick_params(axis="y", labelsize=10, labelcolor=INK)
    ax.grid(axis="x", color=FAINT, linewidth=0.6)
    nats = ", nats per row" if name in NATS else ""
    words = f"{name.replace('_', ' ')} over {comparison.baseline}{nats}"
    ax.set_xlabel(as_words(words), color=QUIET)
    better = comparison.metrics[name].better
    side = {"higher": ": right is better", "lower": ": left is better", None: ""}[better]
    set_title(ax, title if title is not None else f"Paired differences{side}")
    return figure


def climbs(comparison: Comparison, *, title: str | None = "Training bound by epoch and by second") -> Figure:
    """The training bound of each way by epoch (of EM, iteration) and by seconds of training, of the first seed.

    A horizontal axis that spans more than a factor of ten is logarithmic: an exact inference may be done before the first
    epoch of another is. The vertical
    axis shows where the ways differ: what lies far below runs out of the picture, with an arrow at its name. It is the
    bound without weights, whatever weights of the KL the objective had.

    Args:
        comparison: as ``lfm.compare`` gives it.

    Raises:
        DeclarationError: no way was fitted.
    """
    comparison = of_kind(comparison, Comparison, "lfm.compare")
    seed = comparison.seeds[0]
    every = {way: _climb(comparison.histories[way].get(seed, [])) for way in comparison.ways}
    shades = dict(zip(comparison.ways, colours(comparison.ways), strict=True))
    found = {way: curves for way, curves in every.items() if curves is not None}
    if not found:
        raise DeclarationError("no way was fitted from the first seed")
    width = 7.9 + 0.085 * (max(map(len, found)) + 8)
    figure = new_figure(width, 3.9, layout=None)
    left, right = figure.subplots(1, 2, sharey=True)
    for ax, k, words in ((left, 0, "epoch"), (right, 1, "seconds of training")):
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.spines["bottom"].set_color(FAINT)
        ax.tick_params(colors=QUIET, labelsize=9, length=0, which="both")
        for way, curves in found.items():
            x, y = curves[k], curves[2]
            ax.plot(x, y, color=shades[way], linewidth=1.7)
            ax.plot(x[-1:], y[-1:], "o", color=shades[way], markersize=4)
        ax.set_xlabel(words, color=QUIET)
        ax.grid(axis="y", color=FAINT, linewidth=0.6)
    left.set_ylim(*_levels([(curves[0], curves[2]) for curves in found.values()]))
    for ax, k in ((left, 0), (right, 1)):
        visible = [curves[k][curves[2] >= left.get_ylim()[0]] for curves in found.values()]
        least = min(float(x.min()) for x in visible if len(x))
        _across(ax, least, max(float(curves[k].max()) for curves in found.values()))
    left.set_ylabel("nats per row", color=QUIET)
    end_labels(right, [(float(curves[2][-1]), way, shades[way]) for way, curves in found.items()])
    for ax, start in ((left, 0.75), (right, 4.35)):
        ax.set_position((start / width, 0.15, 3.3 / width, 0.72))
    set_title(left, title)
    return figure


def _across(ax: Axes, least: float, most: float) -> None:
    """Limits and few ticks of a horizontal axis: logarithmic beyond a factor of ten."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    if most > 10 * least:
        ax.set_xscale("log")
        decades = np.log10(most / least)
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if decades < 3 else (1.0,), numticks=8))
        ax.set_xlim(least / 10 ** (0.04 * decades), most * 10 ** (0.04 * decades))
    else:
        room = 0.05 * (most - least) or 0.5 * most
        epochs = ax.get_xlabel() == "epoch"
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=epochs, min_n_ticks=1))
        ax.set_xlim(least - room, most + room)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter("{x:g}")


def _climb(history: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Epochs from 1, seconds so far, bounds, where there are any."""
    if not history:
        return None
    seconds = list(accumulate(record["seconds"] for record in history))
    table = np.array([(max(r["epoch"], 1), s, r["bound"]) for r, s in zip(history, seconds, strict=True)])
    epochs, spent, bound = table[np.isfinite(table).all(1)].T
    return (epochs, np.maximum(spent, 1e-6), bound) if len(bound) else None


def _levels(found: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Limits that hold where the ways end, but for those far below, and the way there as far as it can be told apart."""
    top = max(float(y.max()) for _, y in found)
    ends = _nearest([top - float(y[-1]) for _, y in found])
    near = [(x, y) for x, y in found if top - y[-1] <= ends]
    early = min(float(y[x >= min(0.2 * x[-1], x[-1])].min()) for x, y in near)
    low = max(early, top - 8 * ends) if ends > 0 else early
    margin = 0.08 * (top - low) or 1.0
    return low - margin, top + margin


def _nearest(distances: list[float]) -> float:
    """The largest of some distances that is not far, twelve times as much, beyond all smaller ones."""
    ordered = sorted(distances)
    least = next((d for d in ordered if d > 1e-3 * ordered[-1]), 0.0)
    kept = least
    for distance in ordered:
        if distance > 12 * kept:
            break
        kept = max(kept, distance)
    return kept


def _reach(found: list[Estimate]) -> tuple[float, float]:
    """Limits that hold 0 and the intervals, but for ways that would press those of the others to nothing."""
    kept = _nearest([abs(d.mean) + 2 * (0.0 if np.isnan(d.error) else d.error) for d in found])
    ends = [0.0]
    for d in found:
        error = 0.0 if np.isnan(d.error) else d.error
        if abs(d.mean) + 2 * error <= kept:
            ends += [d.mean - 2 * error, d.mean + 2 * error]
    margin = 0.08 * (max(ends) - min(ends)) or 1.0
    return min(ends) - margin, max(ends) + margin


def _line(ax: Axes, place: int, found: Estimate, shade: str, limits: tuple[float, float]) -> None:
    low, high = limits
    if not low <= found.mean <= high:
        edge, sign = (low, -1) if found.mean < low else (high, 1)
        ax.annotate(
            "", (edge, place), (edge - sign * 0.08 * (high - low), place),
            arrowprops={"arrowstyle": "-|>", "color": shade, "linewidth": 1.8, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
        return
    if not np.isnan(found.error):
        for times, width in ((2, 1.2), (1, 4.0)):
            ends = [found.mean - times * found.error, found.mean + times * found.error]
            ax.plot(ends, [place, place], color=shade, linewidth=width, solid_capstyle="butt", zorder=1)
    ax.plot([found.mean], [place], "o", color=shade, markersize=7, zorder=2)


def _figures(error: float) -> str:
    return signed(error, error).removeprefix("+")
