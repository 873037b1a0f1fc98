"""Pictures of calibration: ranks, coverage, k̂, what a classifier tells apart, replicates of the data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_lfm.evaluate import (
    Coverage,
    Diagnosis,
    LogLikelihood,
    PredictiveCheck,
    SimulationBasedCalibration,
    TwoSample,
    Uniformity,
    VariationalCalibration,
)
from pyro_lfm.evaluate.likelihood.pareto import threshold
from pyro_lfm.plots.style import FAINT, GUIDES, INK, QUIET, as_array, as_words, new_figure, of_kind

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FINE, _WRONG = GUIDES[0], GUIDES[4]
# Curves that have colours and names of their own.
_NAMED = 6


def ranks(
    found: SimulationBasedCalibration, *, title: str | None = "Ranks of the truth among draws"
) -> Figure:
    """F(u) − u of each column's ranks, and the band that all of them stay within if q is the posterior.

    A curve that leaves the band rejects at 5%. A hump above 0: the truth lies low among the draws, which lie too high. Up,
    then down: draws too close together; down, then up: too far apart.

    >>> from pyro_lfm.evaluate import simulation_based_calibration
    >>> rng = np.random.default_rng(0)
    >>> found = simulation_based_calibration(rng.normal(size=(100, 1)), rng.normal(size=(19, 100, 1)))
    >>> ranks(found).axes[0].get_xlabel()
    'rank of the truth, as a share'
    """
    return _single(
        _ranks, of_kind(found, SimulationBasedCalibration, "lfm.evaluate.simulation_based_calibration"), title
    )


def symmetry(found: VariationalCalibration, *, title: str | None = "Is q centred on the truth?") -> Figure:
    """F(p) + F(1 − p) − 1 of each coordinate's p = Pr(z < z*), 0 where p is symmetric; below 0 draws lie too low."""
    return _single(_symmetry, of_kind(found, VariationalCalibration, "lfm.evaluate.vsbc"), title)


def expected_coverage(found: Coverage, *, title: str | None = "Coverage") -> Figure:
    """The share of truths that regions hold against the share of q that they hold: below the diagonal overconfident."""
    return _single(_coverage, of_kind(found, Coverage, "lfm.evaluate.expected_coverage"), title, (4.6, 4.4))


def pareto(found: LogLikelihood, *, title: str | None = "k̂ of each row") -> Figure:
    """k̂ of the rows in order, with the limit above which importance weights are not to be relied on."""
    return _single(_pareto, of_kind(found, LogLikelihood, "lfm.evaluate.log_likelihood"), title)


def two_sample(found: TwoSample, *, title: str | None = "What a classifier tells apart") -> Figure:
    """Rows by the rank of the truth among draws by the classifier's score: flat where it cannot tell them apart."""
    return _single(_two_sample, of_kind(found, TwoSample, "lfm.evaluate.classifier_two_sample"), title)


def predictive(found: PredictiveCheck, *, title: str | None = "The data among their replicates") -> Figure:
    """Each statistic of the data, a dot, over those of the replicates, in deviations of these."""
    size = (6.6, 1.2 + 0.32 * len(of_kind(found, PredictiveCheck, "lfm.evaluate.predictive_check").names))
    return _single(_predictive, found, title, size)


def diagnosis(found: Diagnosis, *, title: str | None = None) -> Figure:
    """All tests of a ``Diagnosis`` on one page; red is what rejects at 5%, all tests taken together.

    Args:
        title: above all; by default the verdict.
    """
    flagged = of_kind(found, Diagnosis, "lfm.evaluate.diagnose").flagged()
    figure = new_figure(14.5, 7.4)
    grid = figure.subplots(2, 4).ravel()
    panels: dict[str, tuple[Any, str]] = {
        "sbc": (_ranks, "SBC: ranks"),
        "vsbc": (_symmetry, "VSBC: symmetry"),
        "coverage": (_coverage, "Highest-density regions"),
        "tarp": (_coverage, "TARP: balls around references"),
        "two_sample": (_two_sample, "Classifier two-sample test"),
        "predictive": (_predictive, "Posterior predictive"),
        "pareto": (_pareto, "k̂ of the given rows"),
    }
    for ax, (name, (draw, words)) in zip(grid, panels.items(), strict=False):
        _plain(ax)
        draw(ax, getattr(found, name))
        p = found.p_values.get(name)
        _head(ax, words if p is None else f"{words}, p = {p:.3f}", _WRONG if name in flagged else INK)
    _report(grid[-1], found, flagged)
    figure.suptitle(title or _folded(found.verdict, 150), color=INK, fontsize=12, x=0.008, ha="left")
    return figure


# Panels --------------------------------------------------------------------------------------------------


def _ranks(ax: Axes, found: SimulationBasedCalibration) -> None:
    own = found.ranks
    u, band = as_array(own.levels), as_array(own.band)
    _band(ax, u, band)
    _curves(ax, u, as_array(own.shares) - u, own)
    ax.set_xlabel("rank of the truth, as a share", color=QUIET)
    ax.set_ylabel("F(u) − u", color=QUIET)


def _symmetry(ax: Axes, found: VariationalCalibration) -> None:
    counts = as_array(found.counts)
    rows, size = counts[0].sum(), counts.shape[1]
    p = (np.arange(size) + 0.5) / size
    excess = (counts - counts[:, ::-1]).cumsum(1) / rows
    _band(ax, p, np.full(size, found.limit / rows**0.5))
    _lines(ax, p, excess, found.names, as_array(found.p_values) <= 0.05, as_array(found.statistic))
    ax.set_xlabel("p = Pr(z < z*)", color=QUIET)
    ax.set_ylabel("F(p) + F(1 − p) − 1", color=QUIET)


def _coverage(ax: Axes, found: Coverage) -> None:
    own = found.ranks
    u, band = as_array(own.levels), as_array(own.band)
    seen = np.isfinite(band)
    ax.fill_between(u[seen], (u - band)[seen], (u + band)[seen], color=FAINT, linewidth=0)
    ax.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=(0, (4, 2)))
    shares, wrong = as_array(own.shares), as_array(own.p_values) <= 0.05
    for k in reversed(range(len(shares))):
        first = not k
        look: dict[str, Any] = {"linewidth": 1.8 if first else 0.9, "alpha": 1.0 if first else 0.6}
        ax.plot(u, shares[k], color=_WRONG if wrong[k] else _FINE, **look)
    if len(shares) > 1:
        ax.plot([], [], color=QUIET, linewidth=1.8, label="a reference for each row")
        ax.plot([], [], color=QUIET, linewidth=0.9, label="one for all rows")
        ax.legend(loc="upper left", frameon=False, fontsize=8, labelcolor=QUIET)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_xlabel("credibility: share of q that is held", color=QUIET)
    ax.set_ylabel("share of truths that are held", color=QUIET)


def _pareto(ax: Axes, found: LogLikelihood) -> None:
    k = np.sort(as_array(found.pareto_k))
    # An exact posterior has k̂ = −∞, too few weights ∞: at the edges.
    low, high = -0.35, max(1.15, float(k[np.isfinite(k)].max(initial=0.0)) + 0.1)
    limit = threshold(found.draws) if found.draws else math.inf
    shown, across = k.clip(low, high), (np.arange(len(k)) + 0.5) / len(k)
    ax.scatter(across, shown, s=7, linewidth=0, color=np.where(k > limit, _WRONG, _FINE).tolist())
    # Rows rise from left to right: above a line there is room on the left, below it on the right.
    marks: list[tuple[float, str, dict[str, Any]]] = [
        (1.0, "1: no mean", {"x": 0.01, "va": "bottom"}),
        (limit, f"{limit:.2f}: not to be relied on", {"x": 0.99, "va": "top", "ha": "right"}),
    ]
    for value, words, place in marks:
        if math.isfinite(value):
            ax.axhline(value, color=QUIET, linewidth=0.8, linestyle=(0, (4, 2)))
            ax.text(y=value, s=words, color=QUIET, fontsize=8, **place)
    if not np.isfinite(k).all():
        ends = [
            w
            for w, any_ in (("bottom: −∞, exact", np.isneginf(k).any()), ("top: ∞", np.isposinf(k).any()))
            if any_
        ]
        ax.text(0.99, low + 0.05, "; ".join(ends), color=QUIET, fontsize=8, ha="right", va="bottom")
    ax.set_xlim(0, 1)
    ax.set_ylim(low - 0.04, high + 0.04)
    ax.set_xlabel("rows in order, as a share", color=QUIET)
    ax.set_ylabel("k̂", color=QUIET)


def _two_sample(ax: Axes, found: TwoSample) -> None:
    counts = as_array(found.counts)
    size = len(counts)
    bins = next((n for n in range(min(20, size), 4, -1) if not size % n), min(10, size))
    place = np.arange(size) * bins // size
    wide = np.bincount(place) / size
    heights = np.bincount(place, weights=counts) / counts.sum() / wide
    edges = np.concatenate([[0], wide.cumsum()])
    colour = _WRONG if found.p_value <= 0.05 else _FINE
    ax.bar(edges[:-1], heights, width=0.96 * wide, align="edge", color=colour, alpha=0.8)
    ax.axhline(1, color=QUIET, linewidth=0.8, linestyle=(0, (4, 2)))
    ax.set_xlim(0, 1)
    ax.set_xlabel("rank of the truth by the score, as a share", color=QUIET)
    ax.set_ylabel("density of rows", color=QUIET)
    ax.text(
        0.03, 0.97, f"tells {found.accuracy:.1%}; 5% limit {found.limit:.1%}", transform=ax.transAxes,
        color=QUIET, fontsize=8.5, va="top",
    )  # fmt: skip
    ax.set_ylim(0, 1.15 * max(heights.max(), 1.2))


def _predictive(ax: Axes, found: PredictiveCheck) -> None:
    observed, replicated = (as_array(part) for part in found.standardised)
    wrong = as_array(found.p_values) <= 0.05
    # Far dots stand at the edge, with their distance in words.
    edge = max(6.0, 1.15 * float(np.abs(replicated).max()))
    for k in range(len(found.names)):
        j = len(found.names) - 1 - k
        ax.plot(replicated[:, k], np.full(len(replicated), j), "|", color=QUIET, markersize=7, alpha=0.35)
        colour = _WRONG if wrong[k] else _FINE
        ax.plot(np.clip(observed[k], -edge, edge), j, "o", color=colour, markersize=6, zorder=3)
        if abs(observed[k]) > edge:
            side = "right" if observed[k] > 0 else "left"
            words = f"{observed[k]:+.0f}".replace("-", "−").replace("inf", "∞")
            ax.text(
                math.copysign(0.94 * edge, observed[k]), j + 0.12, words,
                ha=side, va="bottom", color=colour, fontsize=8,
            )  # fmt: skip
    ax.set_yticks(
        range(len(found.names)), [as_words(name) for name in reversed(found.names)], color=INK, fontsize=8.5
    )
    ax.set_xlim(-1.06 * edge, 1.06 * edge)
    ax.set_ylim(-0.6, len(found.names) - 0.4)
    ax.axvline(0, color=FAINT, linewidth=0.8, zorder=0)
    ax.set_xlabel("deviations from the replicates' mean", color=QUIET)


def _report(ax: Axes, found: Diagnosis, flagged: tuple[str, ...]) -> None:
    ax.set_axis_off()
    place = 1.0
    lines = [("k̂", found.pareto.verdict, False)]
    lines += [(name, getattr(found, name).verdict, name in flagged) for name in found.p_values]
    for name, verdict, wrong in lines:
        words = _folded(f"{name}: {verdict}", 62)
        ax.text(
            -0.05, place, words, transform=ax.transAxes, va="top", fontsize=7.2, linespacing=1.25,
            color=_WRONG if wrong else INK,
        )  # fmt: skip
        place -= 0.047 * (words.count("\n") + 1) + 0.02


# Parts ---------------------------------------------------------------------------------------------------


def _single(draw: Any, found: Any, title: str | None, size: tuple[float, float] = (6.4, 3.8)) -> Figure:
    figure = new_figure(*size)
    ax = figure.add_subplot()
    _plain(ax)
    draw(ax, found)
    if title:
        _head(ax, title, INK, 12)
    return figure


def _plain(ax: Axes) -> None:
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(FAINT)
    ax.tick_params(colors=QUIET, labelsize=8.5, length=0)
    ax.set_axisbelow(True)


def _head(ax: Axes, words: str, colour: str, size: float = 10.5) -> None:
    ax.set_title(words, color=colour, fontsize=size, loc="left", pad=8)


def _band(ax: Axes, u: np.ndarray, band: np.ndarray) -> None:
    seen = np.isfinite(band)
    ax.fill_between(u[seen], -band[seen], band[seen], color=FAINT, linewidth=0)
    ax.axhline(0, color=QUIET, linewidth=0.8, linestyle=(0, (4, 2)))
    ax.set_xlim(0, 1)


def _curves(ax: Axes, u: np.ndarray, curves: np.ndarray, own: Uniformity) -> None:
    _lines(ax, u, curves, own.names, as_array(own.p_values) <= 0.05, as_array(own.statistic))


def _lines(
    ax: Axes, x: np.ndarray, curves: np.ndarray, names: tuple[str, ...], wrong: np.ndarray, size: np.ndarray
) -> None:
    """Few curves have colours; of many those that leave the band, the worst with their names."""
    few = len(curves) <= _NAMED
    named = set(range(len(curves)) if few else np.argsort(-size)[:3][wrong[np.argsort(-size)[:3]]].tolist())
    colour = dict(zip(sorted(named), GUIDES, strict=False))
    for k, curve in enumerate(curves):
        if k not in named:
            ax.plot(x, curve, color=_WRONG if wrong[k] else QUIET, linewidth=0.7, alpha=0.5)
    for k in sorted(named):
        ax.plot(x, curves[k], color=colour[k], linewidth=1.5, label=as_words(names[k]))
    if named:
        ax.legend(
            frameon=False,
            fontsize=8,
            labelcolor=QUIET,
            handlelength=1.4,
            loc="best",
            ncols=1 + (len(named) > 3),
        )


def _folded(words: str, width: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(as_words(words), width))
