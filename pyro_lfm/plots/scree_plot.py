"""The scree of eigenvalues with parallel analysis, beside the held-out likelihood, for the number of factors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyro_lfm.factor_analysis.factor_numbers import FactorNumbers
from pyro_lfm.plots.style import FAINT, GUIDES, INK, PAGE, QUIET, new_figure, of_kind, set_heading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def scree(result: FactorNumbers, *, title: str | None = "Eigenvalues and held-out likelihood") -> Figure:
    """The eigenvalues of the correlations with those of data without factors, and the held-out likelihood by K.

    Args:
        result: of ``lfm.factor_analysis.number_of_factors``.

    >>> import torch
    >>> import pyro_lfm as lfm
    >>> figure = lfm.plots.scree(lfm.factor_analysis.number_of_factors(torch.randn(60, 4), largest=1, draws=5, folds=2))
    >>> [axes.get_xlabel() for axes in figure.axes]
    ['factor', 'number of factors']
    """
    result = of_kind(result, FactorNumbers, "lfm.factor_analysis.number_of_factors")
    figure = new_figure(PAGE, 4.1)
    left, right = figure.subplots(1, 2)
    _eigenvalues(left, result)
    _held_out(right, result)
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(FAINT)
        ax.tick_params(colors=QUIET, labelsize=9, length=0)
        ax.xaxis.get_major_locator().set_params(integer=True)
        # Below the axes, where it crosses no line.
        ax.legend(
            loc="upper left",
            bbox_to_anchor=(0.0, -0.2),
            borderaxespad=0.0,
            frameon=False,
            fontsize=9,
            labelcolor=INK,
        )
    set_heading(figure, title)
    return figure


def _eigenvalues(ax: Axes, result: FactorNumbers) -> None:
    values = result.parallel
    places = range(1, len(values.eigenvalues) + 1)
    ax.plot(places, values.eigenvalues, "o-", color=GUIDES[0], markersize=4, label="data")
    ax.plot(
        places,
        values.quantile,
        "--",
        color=GUIDES[4],
        label=f"without factors, {result.quantile:.0%} quantile",
    )
    _mark(ax, values.factors + 0.5, f"parallel analysis: {values.factors}")
    ax.set_xlabel("factor", color=INK)
    ax.set_ylabel("eigenvalue of the correlations", color=INK)


def _held_out(ax: Axes, result: FactorNumbers) -> None:
    table = result.table
    best = result.suggested["held-out likelihood"]
    ax.errorbar(
        table.index,
        table["held_out"] - table["held_out"][best],
        # Errors of the gain over one factor fewer, which rows share.
        yerr=table["gain_error"].fillna(0.0),
        fmt="o-",
        color=GUIDES[2],
        markersize=4,
        label="held out, ± error of the gain",
    )
    others = ", ".join(
        f"{name} {count}" for name, count in result.suggested.items() if name in ("BIC", "variational Bayes")
    )
    _mark(ax, best, f"highest: {best} ({others})")
    ax.set_xlabel("number of factors", color=INK)
    ax.set_ylabel("nats per row, below the highest", color=INK)


def _mark(ax: Axes, place: float, label: str) -> None:
    ax.axvline(place, color=QUIET, linewidth=0.8, linestyle=":", label=label)
