"""Pictures of a comparison: paired differences with their errors, and bounds by epoch and by second."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from pyro_lfm.comparison import Comparison, Estimate
from pyro_lfm.comparison.formats import signed
from pyro_lfm.comparison.metrics import NATS
from pyro_lfm.errors import DeclarationError
from pyro_lfm.plots.curves import History, end_labels, room_for_names
from pyro_lfm.plots.style import (
    FAINT,
    INK,
    PAGE,
    QUIET,
    colours,
    folded,
    new_figure,
    of_kind,
    plain_axes,
    set_title,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Epochs from 1, seconds so far, bounds.
Curve = tuple[np.ndarray, np.ndarray, np.ndarray]


def differences(result: Comparison, metric: str | None = None, *, title: str | None = None) -> Figure:
    """The difference of each candidate from the baseline, paired by row and seed: a forest plot.

    A dot is the mean, the thick line one standard error to each side, and the thin line two. A difference is not clear if
    its thin line crosses the baseline. Hollow dots are single seeds, where there are several. A candidate far from all
    others is drawn as an arrow at the edge.

    Args:
        result: of ``lfm.compare``.
        metric: the metric, by default the first.

    Raises:
        DeclarationError: an unknown metric, or nothing to compare with the baseline.

    >>> import pyro_lfm as lfm, torch
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> candidates = {"EM": lfm.EM(), "variational EM": lfm.VariationalEM()}
    >>> result = lfm.compare(model, torch.randn(30, 3), candidates, metrics="bound", progress=False)
    >>> lfm.plots.differences(result).axes[0].get_xlabel()
    'bound over EM, nats per row'
    """
    comparison = of_kind(result, Comparison, "lfm.compare")
    name = next(iter(comparison.metrics)) if metric is None else metric
    every = {candidate: comparison.difference(name, candidate) for candidate in comparison.candidates}
    shown = {
        candidate: d
        for candidate, d in every.items()
        if candidate != comparison.baseline and np.isfinite(d.mean)
    }
    if not np.isfinite(comparison.estimate(name, comparison.baseline).mean):
        raise DeclarationError(f"the baseline {comparison.baseline} has no {name} to take differences from")
    if not shown:
        raise DeclarationError(
            f"no candidate was measured beside the baseline {comparison.baseline} by a comparable {name}"
        )
    low, high = _reach(list(shown.values()))
    names = [folded(candidate, 24) for candidate in shown]
    lines = max(name.count("\n") + 1 for name in names)
    longest = max(len(line) for name in names for line in name.split("\n"))
    figure = new_figure(5.6 + 0.085 * longest, 1.5 + max(0.42, 0.19 * lines) * len(shown))
    ax = plain_axes(figure)
    shades = dict(zip(comparison.candidates, colours(comparison.candidates), strict=True))
    for place, (candidate, difference) in enumerate(shown.items()):
        _line(ax, place, difference, shades[candidate], (low, high))
        per_seed = comparison.values[name][candidate] - comparison.values[name][comparison.baseline]
        inside = [d for d in per_seed.tolist() if low <= d <= high]
        if len(per_seed) > 1:
            ax.plot(
                inside,
                [place] * len(inside),
                "o",
                markersize=3.5,
                mfc="white",
                mec=shades[candidate],
                zorder=3,
            )
        error = "" if np.isnan(difference.error) else f" ± {_figures(difference.error)}"
        number = f"{signed(difference.mean, difference.error)}{error}"
        ax.annotate(
            number + "  ", (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=9.5, color=INK
        )  # fmt: skip
    ax.axvline(0, color=QUIET, linewidth=1.0, zorder=0)
    ax.set_xlim(low, high)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_yticks(range(len(shown)), names)
    ax.tick_params(axis="y", labelsize=10, labelcolor=INK)
    ax.grid(axis="x", color=FAINT, linewidth=0.6)
    nats = ", nats per row" if name in NATS else ""
    label = f"{name.replace('_', ' ')} over {comparison.baseline}{nats}"
    ax.set_xlabel(folded(label, 60), color=QUIET)
    better = comparison.metrics[name].better
    side = {"higher": ": right is better", "lower": ": left is better", None: ""}[better]
    set_title(ax, title if title is not None else f"Paired differences{side}")
    return figure


def bounds_by_time(
    result: Comparison, *, title: str | None = "Training bound by epoch and by second"
) -> Figure:
    """The training bound of each candidate by epoch (iteration, of EM) and by seconds of training, for the first seed.

    A horizontal axis over more than a factor of ten is logarithmic, as an exact inference may end before the first epoch of
    another. The vertical axis shows where the candidates differ. Curves far below are cut off, with an arrow at their name.
    The bound has no weights, even where the objective weights the KL.

    Args:
        result: of ``lfm.compare``.

    Raises:
        DeclarationError: no candidate was fitted.

    >>> import pyro_lfm as lfm, torch
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> inferences = {"EM": lfm.EM(), "variational EM": lfm.VariationalEM()}
    >>> comparison = lfm.compare(model, torch.randn(30, 3), inferences, metrics="bound", progress=False)
    >>> len(lfm.plots.bounds_by_time(comparison).axes)
    2
    """
    comparison = of_kind(result, Comparison, "lfm.compare")
    seed = comparison.seeds[0]
    every = {name: _curve(comparison.histories[name].get(seed, [])) for name in comparison.candidates}
    shades = dict(zip(comparison.candidates, colours(comparison.candidates), strict=True))
    fitted = {name: curve for name, curve in every.items() if curve is not None}
    if not fitted:
        raise DeclarationError("no candidate was fitted from the first seed")
    figure = new_figure(PAGE, 3.9, layout=None)
    left, right = figure.subplots(1, 2, sharey=True)
    for ax, k, label in ((left, 0, "epoch"), (right, 1, "seconds of training")):
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.spines["bottom"].set_color(FAINT)
        ax.tick_params(colors=QUIET, labelsize=9, length=0, which="both")
        for candidate, curve in fitted.items():
            x, y = curve[k], curve[2]
            ax.plot(x, y, color=shades[candidate], linewidth=1.7)
            ax.plot(x[-1:], y[-1:], "o", color=shades[candidate], markersize=4)
        ax.set_xlabel(label, color=QUIET)
        ax.grid(axis="y", color=FAINT, linewidth=0.6)
    curves = list(fitted.values())
    left.set_ylim(*_levels([(epochs, bound) for epochs, _, bound in curves]))
    for ax, k in ((left, 0), (right, 1)):
        visible = [curve[k][curve[2] >= left.get_ylim()[0]] for curve in curves]
        least = min(float(x.min()) for x in visible if len(x))
        _across(ax, least, max(float(curve[k].max()) for curve in curves))
    left.set_ylabel("nats per row", color=QUIET)
    end_labels(right, [(float(curve[2][-1]), name, shades[name]) for name, curve in fitted.items()])
    # Margins are set by hand, as a layout engine ignores the names at the right.
    panel = (PAGE - 0.75 - 0.3 - room_for_names(fitted)) / 2
    for ax, start in ((left, 0.75), (right, 1.05 + panel)):
        ax.set_position((start / PAGE, 0.15, panel / PAGE, 0.72))
    set_title(left, title)
    return figure


def _across(ax: Axes, least: float, most: float) -> None:
    """Sets limits and a few ticks of a horizontal axis, which is logarithmic beyond a factor of ten."""
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


def _curve(history: History) -> Curve | None:
    """The curve of the records with finite numbers, or None where there is no such record."""
    if not history:
        return None
    seconds = list(accumulate(record["seconds"] for record in history))
    table = np.array([(max(r["epoch"], 1), s, r["bound"]) for r, s in zip(history, seconds, strict=True)])
    epochs, spent, bound = table[np.isfinite(table).all(1)].T
    return (epochs, np.maximum(spent, 1e-6), bound) if len(bound) else None


def _levels(curves: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Vertical limits that show the ends of all curves but those far below, with the ends still distinct."""
    top = max(float(y.max()) for _, y in curves)
    ends = _nearest([top - float(y[-1]) for _, y in curves])
    near = [(x, y) for x, y in curves if top - y[-1] <= ends]
    early = min(float(y[x >= min(0.2 * x[-1], x[-1])].min()) for x, y in near)
    low = max(early, top - 8 * ends) if ends > 0 else early
    margin = 0.08 * (top - low) or 1.0
    return low - margin, top + margin


def _nearest(distances: list[float]) -> float:
    """The largest distance before the first jump by more than a factor of twelve, in ascending order."""
    ordered = sorted(distances)
    least = next((d for d in ordered if d > 1e-3 * ordered[-1]), 0.0)
    kept = least
    for distance in ordered:
        if distance > 12 * kept:
            break
        kept = max(kept, distance)
    return kept


def _reach(estimates: list[Estimate]) -> tuple[float, float]:
    """Horizontal limits that show 0 and the intervals, but those of candidates far from all others."""
    kept = _nearest([abs(d.mean) + 2 * (0.0 if np.isnan(d.error) else d.error) for d in estimates])
    ends = [0.0]
    for d in estimates:
        error = 0.0 if np.isnan(d.error) else d.error
        if abs(d.mean) + 2 * error <= kept:
            ends += [d.mean - 2 * error, d.mean + 2 * error]
    margin = 0.08 * (max(ends) - min(ends)) or 1.0
    return min(ends) - margin, max(ends) + margin


def _line(ax: Axes, place: int, difference: Estimate, shade: str, limits: tuple[float, float]) -> None:
    low, high = limits
    if not low <= difference.mean <= high:
        edge, sign = (low, -1) if difference.mean < low else (high, 1)
        ax.annotate(
            "", (edge, place), (edge - sign * 0.08 * (high - low), place),
            arrowprops={"arrowstyle": "-|>", "color": shade, "linewidth": 1.8, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
        return
    if not np.isnan(difference.error):
        for times, width in ((2, 1.2), (1, 4.0)):
            ends = [difference.mean - times * difference.error, difference.mean + times * difference.error]
            ax.plot(ends, [place, place], color=shade, linewidth=width, solid_capstyle="butt", zorder=1)
    ax.plot([difference.mean], [place], "o", color=shade, markersize=7, zorder=2)


def _figures(error: float) -> str:
    return signed(error, error).removeprefix("+")
