"""Panels of the pictures of calibration results: each draws one result on given axes. Used by ``plots.calibration``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_lfm.evaluate import Diagnosis, LogLikelihood
from pyro_lfm.evaluate.calibration import (
    Coverage,
    PredictiveCheck,
    SimulationBasedCalibration,
    TwoSample,
    VariationalCalibration,
)
from pyro_lfm.evaluate.calibration.pareto import threshold
from pyro_lfm.plots.style import FAINT, GUIDES, INK, QUIET, as_array, folded, symbol

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FINE, WRONG = GUIDES[0], GUIDES[4]
# The most curves of one panel with a colour and a name of their own.
_NAMED = 6
# The smallest type, in points. The page of all tests is as wide as a page of text, so that it is shown at its own size.
_SMALL = 9


def draw_ranks(ax: Axes, result: SimulationBasedCalibration) -> None:
    own = result.ranks
    u, band = as_array(own.levels), as_array(own.band)
    _band(ax, u, band)
    wrong, size = as_array(own.p_values) <= 0.05, as_array(own.statistic)
    _lines(ax, u, as_array(own.shares) - u, own.names, wrong, size)
    ax.set_xlabel("rank of the truth, as a share", color=QUIET)
    ax.set_ylabel("F(u) − u", color=QUIET)


def draw_symmetry(ax: Axes, result: VariationalCalibration) -> None:
    counts = as_array(result.counts)
    rows, size = counts[0].sum(), counts.shape[1]
    p = (np.arange(size) + 0.5) / size
    excess = (counts - counts[:, ::-1]).cumsum(1) / rows
    _band(ax, p, np.full(size, result.limit / rows**0.5))
    wrong = as_array(result.p_values) <= 0.05
    _lines(ax, p, excess, result.names, wrong, as_array(result.statistic))
    ax.set_xlabel("p = Pr(z < z*)", color=QUIET)
    ax.set_ylabel("F(p) + F(1 − p) − 1", color=QUIET)


def draw_coverage(ax: Axes, result: Coverage) -> None:
    own = result.ranks
    u, band = as_array(own.levels), as_array(own.band)
    seen = np.isfinite(band)
    ax.fill_between(u[seen], (u - band)[seen], (u + band)[seen], color=FAINT, linewidth=0)
    ax.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=(0, (4, 2)))
    shares, wrong = as_array(own.shares), as_array(own.p_values) <= 0.05
    for k in reversed(range(len(shares))):
        first = not k
        look: dict[str, Any] = {"linewidth": 1.8 if first else 0.9, "alpha": 1.0 if first else 0.6}
        ax.plot(u, shares[k], color=WRONG if wrong[k] else FINE, **look)
    if len(shares) > 1:
        ax.plot([], [], color=QUIET, linewidth=1.8, label="a reference for each row")
        ax.plot([], [], color=QUIET, linewidth=0.9, label="one for all rows")
        ax.legend(loc="best", frameon=False, fontsize=_SMALL, labelcolor=QUIET)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_xlabel("credibility: share of q inside", color=QUIET)
    ax.set_ylabel("share of truths inside", color=QUIET)


def draw_pareto(ax: Axes, result: LogLikelihood) -> None:
    k = np.sort(as_array(result.pareto_k))
    # k̂ is −∞ for an exact posterior and ∞ for too few weights. Both are drawn at the edges.
    low, high = -0.35, max(1.15, float(k[np.isfinite(k)].max(initial=0.0)) + 0.1)
    limit = threshold(result.draws) if result.draws else math.inf
    shown, across = k.clip(low, high), (np.arange(len(k)) + 0.5) / len(k)
    ax.scatter(across, shown, s=7, linewidth=0, color=np.where(k > limit, WRONG, FINE).tolist())
    # k̂ increases from left to right, so text fits above a line on the left, and below a line on the right.
    marks: list[tuple[float, str, dict[str, Any]]] = [
        (1.0, "1: no mean", {"x": 0.01, "va": "bottom"}),
        (limit, f"{limit:.2f}: unreliable above", {"x": 0.99, "va": "top", "ha": "right"}),
    ]
    for value, label, place in marks:
        if math.isfinite(value):
            ax.axhline(value, color=QUIET, linewidth=0.8, linestyle=(0, (4, 2)))
            ax.text(y=value, s=label, color=QUIET, fontsize=_SMALL, **place)
    if not np.isfinite(k).all():
        edges = (("bottom: −∞, exact", np.isneginf(k).any()), ("top: ∞", np.isposinf(k).any()))
        ends = [label for label, present in edges if present]
        ax.text(0.99, low + 0.05, "; ".join(ends), color=QUIET, fontsize=_SMALL, ha="right", va="bottom")
    ax.set_xlim(0, 1)
    ax.set_ylim(low - 0.04, high + 0.04)
    ax.set_xlabel("rows in order, as a share", color=QUIET)
    ax.set_ylabel("k̂", color=QUIET)


def draw_two_sample(ax: Axes, result: TwoSample) -> None:
    counts = as_array(result.counts)
    size = len(counts)
    bins = next((n for n in range(min(20, size), 4, -1) if not size % n), min(10, size))
    place = np.arange(size) * bins // size
    wide = np.bincount(place) / size
    heights = np.bincount(place, weights=counts) / counts.sum() / wide
    edges = np.concatenate([[0], wide.cumsum()])
    colour = WRONG if result.p_value <= 0.05 else FINE
    ax.bar(edges[:-1], heights, width=0.96 * wide, align="edge", color=colour, alpha=0.8)
    ax.axhline(1, color=QUIET, linewidth=0.8, linestyle=(0, (4, 2)))
    ax.set_xlim(0, 1)
    ax.set_xlabel("rank of the truth by the score, as a share", color=QUIET)
    ax.set_ylabel("density of rows", color=QUIET)
    ax.text(
        0.03, 0.97, f"accuracy {result.accuracy:.1%}, 5% limit {result.limit:.1%}", transform=ax.transAxes,
        color=QUIET, fontsize=_SMALL, va="top",
    )  # fmt: skip
    ax.set_ylim(0, 1.15 * max(heights.max(), 1.2))


def draw_predictive(ax: Axes, result: PredictiveCheck) -> None:
    observed, replicated = (as_array(part) for part in result.standardised)
    wrong = as_array(result.p_values) <= 0.05
    # A dot outside of the axes is drawn at the edge, with its distance as text.
    edge = max(6.0, 1.15 * float(np.abs(replicated).max()))
    for k in range(len(result.names)):
        j = len(result.names) - 1 - k
        ax.plot(replicated[:, k], np.full(len(replicated), j), "|", color=QUIET, markersize=7, alpha=0.35)
        colour = WRONG if wrong[k] else FINE
        ax.plot(np.clip(observed[k], -edge, edge), j, "o", color=colour, markersize=6, zorder=3)
        if abs(observed[k]) > edge:
            side = "right" if observed[k] > 0 else "left"
            distance = f"{observed[k]:+.0f}".replace("-", "−").replace("inf", "∞")
            ax.text(
                math.copysign(0.94 * edge, observed[k]), j + 0.12, distance,
                ha=side, va="bottom", color=colour, fontsize=_SMALL,
            )  # fmt: skip
    ax.set_yticks(
        range(len(result.names)),
        [symbol(name) for name in reversed(result.names)],
        color=INK,
        fontsize=_SMALL,
    )
    ax.set_xlim(-1.06 * edge, 1.06 * edge)
    ax.set_ylim(-0.6, len(result.names) - 0.4)
    ax.axvline(0, color=FAINT, linewidth=0.8, zorder=0)
    ax.set_xlabel("deviations from the replicates' mean", color=QUIET)


def draw_report(ax: Axes, result: Diagnosis, flagged: tuple[str, ...]) -> None:
    ax.set_axis_off()
    lines = [("k̂", result.pareto.verdict, False)]
    lines += [(name, getattr(result, name).verdict, name in flagged) for name in result.p_values]
    below = 0.0
    for name, verdict, wrong in lines:
        text = folded(f"{name}: {verdict}", 104)
        note = ax.annotate(
            text, (0.0, 1.0), (0, -below), xycoords="axes fraction", textcoords="offset points", va="top",
            fontsize=_SMALL, linespacing=1.2, color=WRONG if wrong else INK, annotation_clip=False,
        )  # fmt: skip
        note.set_in_layout(False)
        below += 1.25 * _SMALL * (text.count("\n") + 1) + 4


def _band(ax: Axes, u: np.ndarray, band: np.ndarray) -> None:
    seen = np.isfinite(band)
    ax.fill_between(u[seen], -band[seen], band[seen], color=FAINT, linewidth=0)
    ax.axhline(0, color=QUIET, linewidth=0.8, linestyle=(0, (4, 2)))
    ax.set_xlim(0, 1)


def _lines(
    ax: Axes, x: np.ndarray, curves: np.ndarray, names: tuple[str, ...], wrong: np.ndarray, size: np.ndarray
) -> None:
    """Draws curves. Few curves all have colours and names. Of many the three worst that leave the band have."""
    few = len(curves) <= _NAMED
    named = set(range(len(curves)) if few else np.argsort(-size)[:3][wrong[np.argsort(-size)[:3]]].tolist())
    colour = dict(zip(sorted(named), GUIDES, strict=False))
    for k, curve in enumerate(curves):
        if k not in named:
            ax.plot(x, curve, color=WRONG if wrong[k] else QUIET, linewidth=0.7, alpha=0.5)
    for k in sorted(named):
        ax.plot(x, curves[k], color=colour[k], linewidth=1.5, label=symbol(names[k]))
    if named:
        ax.legend(
            frameon=False,
            fontsize=_SMALL,
            labelcolor=QUIET,
            handlelength=1.4,
            loc="best",
            ncols=1 + (len(named) > 3),
        )
