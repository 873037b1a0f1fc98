"""The nats of a bound: the KL of each latent entry, and the rate-distortion curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from pyro_lfm.evaluate import Decomposition, RateDistortion
from pyro_lfm.evaluate.decoding.factor_order import Order, places_by
from pyro_lfm.evaluate.decoding.names_of_factors import in_order
from pyro_lfm.plots.style import (
    FAINT,
    GUIDES,
    INK,
    PAGE,
    QUIET,
    as_array,
    bare_axes,
    new_figure,
    of_kind,
    set_heading,
    symbol,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ACTIVE, _SILENT, _GUIDE = GUIDES[0], "#b5b5b5", GUIDES[4]
# The most bars of a picture: as many names as fit on a page side by side, turned.
_MOST = 40

# Name, nats, their error over rows, and whether the entry is active, None where that is not known.
Bar = tuple[str, float, float, bool | None]


def kl_by_entry(
    result: Decomposition,
    *,
    order: Order | Literal["nats"] = "variance",
    title: str | None = "KL of each latent entry",
) -> Figure:
    """The KL of each latent entry, and the rate-distortion curve of the decoder with the guide's point.

    Active entries are blue and others grey. All are blue where activity is not known. A latent whose entries have no KL of
    their own has one bar. Points of the curve with unreliable importance weights are hollow, and the line between them is
    dotted. A result without a curve has only the bars.

    Args:
        result: of ``lfm.evaluate.decompose``. Of more than 40 entries the first are drawn.
        order: of the bars. By default it is that of the variance that factors explain, as in every picture.
            "declared" is the declared order, and "nats" has the largest first. Names of entries stand in the order given.

    Raises:
        DeclarationError: an order that is none.

    >>> import torch
    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear()))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear()))
    >>> parts = lfm.evaluate.decompose((model, guide), torch.randn(20, 4), draws=50)
    >>> [axes.get_ylabel() for axes in lfm.plots.kl_by_entry(parts).axes]
    ['KL, nats per row', 'distortion −E[log p(x | z)], nats per row']
    """
    result = of_kind(result, Decomposition, "lfm.evaluate.decompose")
    bars = _in_order(_bars(result), result.order, order)[:_MOST]
    width = max(3.6, 0.9 + 0.24 * len(bars))
    if result.curve is None:
        figure = new_figure(0.6 + width, 4.0)
        _draw_bars(figure.subplots(), bars)
    else:
        beside = width <= PAGE / 2
        figure = new_figure(PAGE, 4.0 if beside else 7.4)
        first, second = figure.subplots(1, 2) if beside else figure.subplots(2, 1)
        _draw_bars(first, bars)
        _draw_curve(second, result.curve)
    set_heading(figure, title)
    return figure


def _bars(result: Decomposition) -> list[Bar]:
    """The bars of all entries of all latents."""
    bars: list[Bar] = []
    for name, units in result.latents.items():
        if units.kl is None:
            term = result.kl[name]
            active = None if units.active is None else bool(units.active.any())
            bars.append((name, term.mean, term.rows_error, active))
            continue
        names = units.names(name)
        errors = units.kl if units.kl_rows_error is None else units.kl_rows_error
        for k, (nats, error) in enumerate(zip(units.kl.tolist(), errors.tolist(), strict=True)):
            if units.active is None:
                bars.append((names[k], nats, error, None))
            else:
                bars.append((names[k], nats, error, bool(units.active[k])))
    return bars


def _in_order(bars: list[Bar], ranked: Sequence[str], order: Order | Literal["nats"]) -> list[Bar]:
    if order == "nats":
        return sorted(bars, key=lambda bar: -bar[1])
    names = [bar[0] for bar in bars]
    return [bars[k] for k in places_by(order, names, in_order(names, ranked))]


def _draw_bars(ax: Axes, bars: list[Bar]) -> None:
    from matplotlib.patches import Patch

    bare_axes(ax)
    names, nats, errors, active = zip(*bars, strict=True)
    places = np.arange(len(bars))
    shades = [_SILENT if each is False else _ACTIVE for each in active]
    ax.bar(places, nats, width=0.72, color=shades)
    ax.errorbar(places, nats, yerr=np.nan_to_num(errors), fmt="none", ecolor=INK, elinewidth=0.8, capsize=0)
    turned = 90 if (max(map(len, names)) > 6 and len(names) > 6) or len(names) >= 25 else 0
    ax.set_xticks(
        places,
        [symbol(name) for name in names],
        color=INK,
        fontsize=9,
        rotation=turned,
    )
    ax.set_xlim(-0.7, max(len(bars), 4) - 0.3)
    ax.set_ylabel("KL, nats per row", color=QUIET, fontsize=9.5)
    ax.grid(axis="y", color=FAINT, linewidth=0.6)
    if None in active:  # labels, or a single row
        return
    # Room for the key above the bars.
    ax.set_ylim(top=1.22 * ax.get_ylim()[1])
    count = sum(active)
    keys = [(_ACTIVE, f"active, {count}"), (_SILENT, f"not active, {len(bars) - count}")]
    handles = [Patch(color=shade, label=label) for shade, label in keys]
    ax.legend(handles=handles, loc="upper right", frameon=False, fontsize=9, labelcolor=QUIET)


def _draw_curve(ax: Axes, curve: RateDistortion) -> None:
    bare_axes(ax)
    rate, distortion = (np.array([term.mean for term in part]) for part in (curve.rate, curve.distortion))
    good = as_array(curve.reliable)
    for i in range(len(rate) - 1):
        style = "-" if good[i] and good[i + 1] else (0, (1, 1.5))
        ax.plot(rate[i : i + 2], distortion[i : i + 2], color=_ACTIVE, linewidth=1.5, linestyle=style)
    ax.plot(rate[good], distortion[good], "o", color=_ACTIVE, markersize=4, label="fixed decoder, best q")
    if not good.all():
        ax.plot(
            rate[~good], distortion[~good], "o", color=_ACTIVE, markerfacecolor="white", markersize=4.5,
            label="too few effective draws",
        )  # fmt: skip
    at = tuple(term.mean for term in curve.guide)
    ax.plot(*at, "D", color=_GUIDE, markersize=6, label="the guide", zorder=5)
    places = [part / max(float(np.ptp(part)), 1e-9) for part in (rate, distortion)]
    taken: list[int] = []
    # The names of points too close to others are left out. The name of β = 1 has priority.
    for i in sorted(range(len(rate)), key=lambda i: abs(np.log(max(curve.betas[i], 1e-9)))):
        room = (
            abs(places[0][i] - places[0][j]) > 0.2 or abs(places[1][i] - places[1][j]) > 0.06 for j in taken
        )
        if curve.betas[i] and all(room):
            ax.annotate(
                f"β = {curve.betas[i]:g}", (rate[i], distortion[i]), xytext=(5, 5), textcoords="offset points",
                color=QUIET, fontsize=9,
            )  # fmt: skip
            taken.append(i)
    ax.margins(x=0.11, y=0.09)
    ax.set_xlabel("rate KL(q ‖ p), nats per row", color=QUIET)
    ax.set_ylabel("distortion −E[log p(x | z)], nats per row", color=QUIET)
    ax.grid(color=FAINT, linewidth=0.6)
    ax.legend(loc="upper right", frameon=False, fontsize=9, labelcolor=QUIET)
