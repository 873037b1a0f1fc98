"""The pictures of the identities: theory as a line, measured values as points."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#767676"


def _axes(figure: Figure, xlabel: str, ylabel: str) -> Axes:
    ax = figure.subplots()
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=10)
    ax.set_xlabel(xlabel, fontsize=11)
    ax.set_ylabel(ylabel, fontsize=11)
    return ax


def _picture(draw: Callable[[Axes], None], xlabel: str, ylabel: str) -> Figure:
    figure = Figure(figsize=(6, 3.6), dpi=150, layout="constrained", facecolor="white")
    ax = _axes(figure, xlabel, ylabel)
    draw(ax)
    ax.legend(frameon=False, fontsize=10)
    return figure


def picture_of_gaps(gaps: dict) -> Figure:
    def draw(ax: Axes) -> None:
        angles = [int(angle) for angle in gaps]
        ax.plot(angles, [gap["formula"] for gap in gaps.values()], color=_GREY, label="formula")
        ax.plot(
            angles,
            [gap["library"] for gap in gaps.values()],
            "o",
            color=_BLUE,
            label="library, best factorised q",
        )

    return _picture(draw, "angle between the loadings of two factors, degrees", "log p(x) − L, nats per row")


def picture_of_rates(measured: dict) -> Figure:
    def draw(ax: Axes) -> None:
        noise, eigenvalues = measured["noise"], np.array(measured["eigenvalues"])
        betas = np.geomspace(0.45, 9, 200)
        curves = np.maximum(0, 0.5 * np.log(eigenvalues[:, None] / (betas * noise)))
        for k, curve in enumerate(curves):
            ax.plot(betas, curve, color=_GREY, lw=1, label="½ ln(λ / βσ²)" if k == 0 else None)
        for k, (beta, values) in enumerate(measured["betas"].items()):
            label = "optimum, one point for a unit" if k == 0 else None
            ax.plot(
                [float(beta)] * len(values["optimum"]),
                values["optimum"],
                "o",
                color=_ORANGE,
                ms=4,
                label=label,
            )
        ax.set_xscale("log")
        ax.set_xticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"])
        ax.minorticks_off()

    return _picture(draw, "β, the weight of the KL", "rate of a unit, nats per row")


def picture_of_bias(measured: dict) -> Figure:
    def draw(ax: Axes) -> None:
        counts = np.array([int(count) for count in measured["bias"]])
        bias = np.array([value for value, _ in measured["bias"].values()])
        ax.plot(counts, measured["variance"] / (2 * counts), color=_GREY, label="Var[w / p(x)] / 2K")
        ax.plot(counts, bias, "o", color=_BLUE, label="log p(x) − L_K")
        ax.set_xscale("log")
        ax.set_yscale("log")

    return _picture(draw, "K, the number of draws", "bias, nats")
