"""Pictures of inference: log p = L + KL on the way up, posteriors of single rows, loadings side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pyro_lfm.comparison import Comparison
from pyro_lfm.errors import ShapeError
from pyro_lfm.inference.result import Fit
from pyro_lfm.plots.curves import histories_of
from pyro_lfm.plots.style import FAINT, INK, QUIET, as_array, as_numbers, by_name, colours, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LIKELIHOOD, _BOUND, _GAP = INK, "#0072B2", "#E69F00"


def decomposition(
    histories: Fit | Comparison | Sequence[Mapping[str, Any]] | Mapping[str, Any],
    *,
    maximum: float | None = None,
    title: str | None = "log p(x) = L + KL(q ‖ p(z | x)) on the way up",
) -> Figure:
    """log p(x) and the bound L of each method, and between them the KL that separates them.

    Where a history has E and M steps both are drawn: an M step lifts log p above L, an E step lifts L to meet it. The
    horizontal axis is logarithmic, so that the first iterations can be told apart; the first ones that lie far below
    run out of the picture.

    Args:
        histories: as for ``bounds``; records have epoch, log_likelihood and bound, nats per row, and step ("M" or "E")
            where there are two an epoch. ``EM`` and ``VariationalEM`` make such; for others a callback may add
            ``log_likelihood`` to the record.
        maximum: the largest log p there is, drawn as a line.

    >>> records = [{"epoch": i, "log_likelihood": -2.0 / (i + 1), "bound": -3.0 / (i + 1)} for i in range(4)]
    >>> [axes.get_title(loc="left") for axes in decomposition({"SVI": records}).axes]
    ['SVI']
    """
    named = histories_of(histories, "log_likelihood", "bound")
    paths = {name: _path(history) for name, history in named.items()}
    top = max(float(likelihood.max()) for _, likelihood, _ in paths.values())
    top = top if maximum is None else max(top, maximum)
    figure = new_figure(1.2 + 2.5 * len(paths), 3.5)
    grid = figure.subplots(1, len(paths), sharey=True, squeeze=False)[0]
    for ax, (name, (x, likelihood, bound)) in zip(grid, paths.items(), strict=True):
        _bare(ax)
        if maximum is not None:
            ax.axhline(maximum, color=QUIET, linewidth=0.8, linestyle=(0, (1, 2)))
        ax.fill_between(x, bound, likelihood, color=_GAP, alpha=0.45, linewidth=0, label="KL")
        ax.plot(x, likelihood, color=_LIKELIHOOD, linewidth=1.5, label="log p(x)")
        ax.plot(x, bound, color=_BOUND, linewidth=1.5, label="L")
        ax.set_xscale("log", base=2)
        ticks = [n for n in (0, 1, 3, 7, 15, 63, 255, 1023) if n + 1 <= x.max() * 1.01]
        ax.set_xticks([n + 1 for n in ticks], [str(n) for n in ticks])
        ax.minorticks_off()
        ax.set_title(name, color=INK, fontsize=10.5, loc="left")
        ax.set_xlabel("iteration" if "step" in named[name][-1] else "epoch", color=QUIET, fontsize=9)
        ax.grid(axis="y", color=FAINT, linewidth=0.6)
        last = likelihood[-1] - bound[-1]
        _name_steps(ax, named[name], x, bound)
        ax.text(
            0.97, 0.04, f"log p {_signed(likelihood[-1])}\nKL {last if last > 1e-9 else 0:.2g}", transform=ax.transAxes,
            ha="right", va="bottom", fontsize=8.5, color=QUIET, linespacing=1.5,
        )  # fmt: skip
    grid[0].set_ylim(*_visible(paths, top))
    grid[0].set_ylabel("nats per row", color=QUIET)
    grid[-1].legend(
        loc="lower right", bbox_to_anchor=(1.0, 0.24), frameon=False, fontsize=8.5, labelcolor=QUIET
    )
    _heading(figure, title)
    return figure


def posterior_ellipses(
    posteriors: Mapping[str, tuple[Any, Any]],
    *,
    names: Sequence[str] | None = None,
    title: str | None = "q(z | x) of a few rows, filled, over the exact p(z | x), drawn as a line",
) -> Figure:
    """The posteriors of a few rows over two factors: q of each method over the exact posterior under the same model.

    Ellipses hold 39% and 86% of a Gaussian's mass: one and two standard deviations.

    Args:
        posteriors: method -> (q, p): Gaussian distributions with batch shape (R,) and event shape (2,).
        names: of the R rows.

    >>> distribution = torch.distributions.MultivariateNormal(torch.zeros(1, 2), torch.eye(2))
    >>> len(posterior_ellipses({"full": (distribution, distribution)}).axes)
    1
    """
    from matplotlib.patches import Ellipse

    posteriors = by_name("posteriors", posteriors, "{'full': (fit.posterior(rows), exact.posterior(rows))}")
    for name, pair in posteriors.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(map(_is_planar, pair)):
            raise ShapeError(
                f"{name} must be two Gaussian distributions of batch shape (R,) and event shape (2,)"
            )
    figure = new_figure(0.6 + 2.6 * len(posteriors), 3.3)
    grid = figure.subplots(1, len(posteriors), squeeze=False)[0]
    for ax, (name, (q, p)) in zip(grid, posteriors.items(), strict=True):
        _bare(ax)
        reach = np.zeros((0, 2))
        shades = colours(q.mean)
        for row, shade in enumerate(shades):
            for distribution, filled in ((q, True), (p, False)):
                mean, covariance = _moments(distribution, row)
                sizes, axes = np.linalg.eigh(covariance)
                angle = math.degrees(math.atan2(axes[1, 1], axes[0, 1]))
                for times in (2, 4):
                    wide, high = times * np.sqrt(sizes[1]), times * np.sqrt(sizes[0])
                    look: dict[str, Any] = {"edgecolor": INK, "facecolor": "none", "linewidth": 1.1}
                    if filled:
                        look = {"facecolor": shade, "edgecolor": "none", "alpha": 0.4}
                    ax.add_patch(Ellipse(tuple(mean), wide, high, angle=angle, **look))
                far = 2 * np.sqrt(np.diag(covariance))
                reach = np.vstack([reach, mean - far, mean + far])
            if names is not None:
                ax.annotate(
                    names[row], _moments(q, row)[0], color=INK, fontsize=8.5, ha="center", va="center"
                )
        _square(ax, reach)
        ax.axhline(0, color=FAINT, linewidth=0.6, zorder=0)
        ax.axvline(0, color=FAINT, linewidth=0.6, zorder=0)
        ax.set_title(name, color=INK, fontsize=10.5, loc="left")
        ax.set_xlabel("$z_1$", color=QUIET)
    grid[0].set_ylabel("$z_2$", color=QUIET)
    _heading(figure, title)
    return figure


def loadings(
    weights: Mapping[str, Any],
    *,
    shape: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    title: str | None = "Loadings: how each column of the data follows each factor",
) -> Figure:
    """The loadings W (D, K) of several methods side by side, blue for negative and red for positive.

    Args:
        weights: method -> W (D, K).
        shape: (H, W) of a picture where the D columns are its pixels: one picture per factor. Without it, a table of
            D rows and K columns for each method.
        names: of the D columns, for the table.

    >>> figure = loadings({"EM": torch.randn(4, 2)}, names=["a", "b", "c", "d"])
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['a', 'b', 'c', 'd']
    """
    named = by_name("weights", weights, "{'EM': W}, W of shape (D, K)")
    arrays = {
        name: as_numbers(name, value, "lfm.evaluate.loadings(fit).mean") for name, value in named.items()
    }
    sizes = {array.shape for array in arrays.values()}
    if len(sizes) != 1 or len(next(iter(sizes))) != 2:
        raise ShapeError(f"weights must have one shape (D, K) for all methods; got {sorted(sizes)}")
    dim, latent = next(iter(sizes))
    if shape is not None and math.prod(shape) != dim:
        raise ShapeError(f"shape must have {dim} pixels, one per column; got {tuple(shape)}")
    largest = max(float(np.abs(array).max()) for array in arrays.values()) or 1.0
    options: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}
    if shape is not None:
        # Methods run across where that is the wider picture.
        across = latent < len(arrays)
        size = (len(arrays), latent) if across else (latent, len(arrays))
        margin = (0.9, 0.9) if across else (2.4, 0.5)
        figure = new_figure(margin[0] + 1.15 * size[0], margin[1] + 1.15 * size[1])
        grid = figure.subplots(size[1], size[0], squeeze=False)
        for i, (name, array) in enumerate(arrays.items()):
            for k, ax in enumerate(grid[:, i] if across else grid[i]):
                picture = ax.imshow(array[:, k].reshape(shape), **options)
                ax.set_xticks([])
                ax.set_yticks([])
                ax.spines[:].set_color(FAINT)
            ax = grid[0, i] if across else grid[i, 0]
            if across:
                ax.set_title(name.replace(", ", ",\n"), color=INK, fontsize=9.5)
            else:
                ax.set_ylabel(name, color=INK, fontsize=10, rotation=0, ha="right", va="center", labelpad=8)
    else:
        figure = new_figure(2.4 + (0.6 + 0.35 * latent) * len(arrays), 1.0 + 0.24 * dim)
        grid = figure.subplots(1, len(arrays), sharey=True, squeeze=False)
        for ax, (name, array) in zip(grid[0], arrays.items(), strict=True):
            picture = ax.imshow(array, aspect="auto", **options)
            ax.set_title(name.replace(", ", ",\n"), color=INK, fontsize=9.5)
            ax.set_xticks(range(latent), [f"$z_{{{k + 1}}}$" for k in range(latent)], color=QUIET)
            ax.spines[:].set_color(FAINT)
            ax.tick_params(length=0)
        if names is not None:
            grid[0][0].set_yticks(range(dim), list(names), color=INK, fontsize=9)
    bar = figure.colorbar(picture, ax=grid, fraction=0.04, pad=0.02, shrink=0.8)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=QUIET, labelsize=8, length=0)
    _heading(figure, title)
    return figure


def _is_planar(distribution: Any) -> bool:
    return (
        isinstance(distribution, torch.distributions.Distribution)
        and len(distribution.batch_shape) == 1
        and distribution.event_shape == (2,)
    )


# Parts ---------------------------------------------------------------------------------------------------


def _bare(ax: Axes) -> None:
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(FAINT)
    ax.tick_params(colors=QUIET, labelsize=8.5, length=0)
    ax.set_axisbelow(True)


def _heading(figure: Figure, title: str | None) -> None:
    if title:
        figure.suptitle(title, color=INK, fontsize=12, x=0.008, ha="left")


def _signed(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")


def _path(history: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the records stand on an axis that starts at 1, log p and L. An M step stands halfway to its E step."""
    x = [record["epoch"] + 1 - 0.5 * (record.get("step") == "M") for record in history]
    keys = ("log_likelihood", "bound")
    likelihood, bound = (np.array([record[key] for record in history], dtype=float) for key in keys)
    return np.array(x, dtype=float), likelihood, bound


def _name_steps(ax: Axes, history: Sequence[Mapping[str, Any]], x: np.ndarray, bound: np.ndarray) -> None:
    """M and E beside the first two steps that L takes."""
    for i, record in enumerate(history[1:3], 1):
        if record.get("step") in ("M", "E"):
            place = (math.sqrt(x[i - 1] * x[i]), (bound[i - 1] + bound[i]) / 2)
            ax.annotate(
                record["step"], place, xytext=(7, -4), textcoords="offset points", color=_BOUND,
                fontsize=9, fontweight="bold", va="top", ha="center",
            )  # fmt: skip


def _visible(
    paths: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], top: float
) -> tuple[float, float]:
    """Limits that hold every L from an eighth of its (logarithmic) way on."""
    lowest = min(float(bound[np.log(x) >= np.log(x[-1]) / 8].min()) for x, _, bound in paths.values())
    margin = 0.06 * (top - lowest) or 1.0
    return lowest - margin, top + margin


def _moments(distribution: Any, row: int) -> tuple[np.ndarray, np.ndarray]:
    covariance = getattr(distribution, "covariance_matrix", None)
    covariance = torch.diag_embed(distribution.variance) if covariance is None else covariance
    return as_array(distribution.mean[row]), as_array(covariance[row])


def _square(ax: Axes, reach: np.ndarray) -> None:
    middle, half = (reach.max(0) + reach.min(0)) / 2, 0.56 * float(np.ptp(reach, axis=0).max())
    ax.set_xlim(middle[0] - half, middle[0] + half)
    ax.set_ylim(middle[1] - half, middle[1] + half)
    ax.set_aspect("equal")
