"""Pictures of calibration results: ranks, coverage, k̂, a classifier's scores, replicates of the data."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from pyro_lfm.evaluate import Diagnosis, LogLikelihood
from pyro_lfm.evaluate.calibration import (
    Coverage,
    PredictiveCheck,
    SimulationBasedCalibration,
    TwoSample,
    VariationalCalibration,
)
from pyro_lfm.plots.calibration_panels import (
    WRONG,
    draw_coverage,
    draw_pareto,
    draw_predictive,
    draw_ranks,
    draw_report,
    draw_symmetry,
    draw_two_sample,
)
from pyro_lfm.plots.style import INK, PAGE, bare_axes, folded, new_figure, of_kind

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The panels of the page of all tests, by row. Each part of the page has margins of its own.
_PAIRS = [["sbc", "vsbc"], ["coverage", "tarp"], ["two_sample", "pareto"]]
Result = TypeVar("Result")


def rank_curves(
    result: SimulationBasedCalibration, *, title: str | None = "Ranks of the truth among draws"
) -> Figure:
    """F(u) − u of the ranks of each column, and the 95% band of all curves under the exact posterior.

    A curve that leaves the band rejects at 5%. A curve above 0 means that draws are too high. A curve first above and then
    below 0 means that draws are too close together, and the opposite that they are too far apart.

    Args:
        result: of ``lfm.evaluate.calibration.simulation_based_calibration``.

    >>> import pyro_lfm as lfm
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> truth, draws = rng.normal(size=(100, 1)), rng.normal(size=(19, 100, 1))
    >>> result = lfm.evaluate.calibration.simulation_based_calibration(truth, draws)
    >>> lfm.plots.rank_curves(result).axes[0].get_xlabel()
    'rank of the truth, as a share'
    """
    function = "lfm.evaluate.calibration.simulation_based_calibration"
    return _single(draw_ranks, of_kind(result, SimulationBasedCalibration, function), title)


def symmetry_curves(
    result: VariationalCalibration, *, title: str | None = "Is q centred on the truth?"
) -> Figure:
    """F(p) + F(1 − p) − 1 of each coordinate's p = Pr(z < z*): 0 where p is symmetric, below 0 where draws are too low.

    Args:
        result: of ``lfm.evaluate.calibration.variational_calibration``.

    >>> import pyro_lfm as lfm
    >>> import torch
    >>> result = lfm.evaluate.calibration.variational_calibration(torch.randn(100, 1), torch.randn(19, 100, 1))
    >>> len(lfm.plots.symmetry_curves(result).axes)
    1
    """
    function = "lfm.evaluate.calibration.variational_calibration"
    return _single(draw_symmetry, of_kind(result, VariationalCalibration, function), title)


def region_coverage(result: Coverage, *, title: str | None = "Coverage") -> Figure:
    """The share of truths inside regions against their share of q. Below the diagonal q is overconfident.

    Args:
        result: of ``lfm.evaluate.calibration.expected_coverage`` or ``lfm.evaluate.calibration.tarp``.

    >>> import pyro_lfm as lfm
    >>> import torch
    >>> result = lfm.evaluate.calibration.tarp(torch.randn(100, 2), torch.randn(19, 100, 2))
    >>> len(lfm.plots.region_coverage(result).axes)
    1
    """
    function = "lfm.evaluate.calibration.expected_coverage"
    return _single(draw_coverage, of_kind(result, Coverage, function), title, (4.6, 4.4))


def pareto_k(result: LogLikelihood, *, title: str | None = "k̂ of each row") -> Figure:
    """k̂ of the rows in ascending order, with the limit above which importance weights are unreliable.

    Args:
        result: of ``lfm.evaluate.log_likelihood``.

    >>> import pyro_lfm as lfm, torch
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> fit = lfm.fit(model, torch.randn(30, 3), lfm.EM(), progress=False)
    >>> len(lfm.plots.pareto_k(lfm.evaluate.log_likelihood(fit, draws=30)).axes)
    1
    """
    return _single(draw_pareto, of_kind(result, LogLikelihood, "lfm.evaluate.log_likelihood"), title)


def two_sample(
    result: TwoSample, *, title: str | None = "Accuracy of a classifier of truths and draws"
) -> Figure:
    """Rows by the rank of the truth among draws by the classifier's score: flat where truths look like draws.

    Args:
        result: of ``lfm.evaluate.calibration.classifier_two_sample``.

    >>> import pyro_lfm as lfm
    >>> import torch
    >>> result = lfm.evaluate.calibration.classifier_two_sample(torch.randn(40, 2), torch.randn(9, 40, 2))
    >>> len(lfm.plots.two_sample(result).axes)
    1
    """
    function = "lfm.evaluate.calibration.classifier_two_sample"
    return _single(draw_two_sample, of_kind(result, TwoSample, function), title)


def predictive_check(
    result: PredictiveCheck, *, title: str | None = "The data among their replicates"
) -> Figure:
    """Each statistic of the data, a dot, over those of the replicates, in standard deviations of the replicates.

    Args:
        result: of ``lfm.evaluate.calibration.predictive_check``.

    >>> import pyro_lfm as lfm
    >>> import torch
    >>> result = lfm.evaluate.calibration.predictive_check([3.0], torch.randn(99, 1), names=["largest"])
    >>> lfm.plots.predictive_check(result).axes[0].get_yticklabels()[0].get_text()
    'largest'
    """
    checked = of_kind(result, PredictiveCheck, "lfm.evaluate.calibration.predictive_check")
    return _single(draw_predictive, checked, title, (6.6, 1.2 + 0.32 * len(checked.names)))


def diagnosis(result: Diagnosis, *, title: str | None = None) -> Figure:
    """All tests of a ``Diagnosis`` on one page. Red are the tests that reject at 5%, corrected for their number.

    Args:
        result: of ``lfm.evaluate.diagnose``.
        title: the title of the page, the verdict by default.

    >>> import pyro_lfm as lfm, torch
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> fit = lfm.fit(model, torch.randn(30, 3), lfm.EM(), progress=False)
    >>> report = lfm.evaluate.diagnose(fit, rows=40, draws=9, replicates=19, weights=20)
    >>> len(lfm.plots.diagnosis(report).axes)
    8
    """
    flagged = of_kind(result, Diagnosis, "lfm.evaluate.diagnose").flagged()
    figure = new_figure(PAGE, 13.6)
    pairs, alone, words = figure.subfigures(3, 1, squeeze=False, height_ratios=[3.0, 1.1, 1.15]).ravel()
    grid = pairs.subplot_mosaic(_PAIRS) | {"predictive": alone.subplots(), "report": words.subplots()}
    panels: dict[str, tuple[Any, str]] = {
        "sbc": (draw_ranks, "SBC: ranks"),
        "vsbc": (draw_symmetry, "VSBC: symmetry"),
        "coverage": (draw_coverage, "Highest-density regions"),
        "tarp": (draw_coverage, "TARP: balls around points"),
        "two_sample": (draw_two_sample, "Classifier two-sample test"),
        "pareto": (draw_pareto, "k̂ of the given rows"),
        "predictive": (draw_predictive, "Posterior predictive"),
    }
    for name, (draw, heading) in panels.items():
        bare_axes(grid[name])
        draw(grid[name], getattr(result, name))
        p = result.p_values.get(name)
        _head(
            grid[name], heading if p is None else f"{heading}, p = {p:.3f}", WRONG if name in flagged else INK
        )
    draw_report(grid["report"], result, flagged)
    figure.suptitle(title or folded(result.verdict, 88), color=INK, fontsize=11, x=0.008, ha="left")
    return figure


def _single(
    draw: Callable[[Axes, Result], None],
    result: Result,
    title: str | None,
    size: tuple[float, float] = (6.4, 3.8),
) -> Figure:
    """A figure of one panel."""
    figure = new_figure(*size)
    ax = figure.add_subplot()
    bare_axes(ax)
    draw(ax, result)
    if title:
        _head(ax, title, INK, 12)
    return figure


def _head(ax: Axes, text: str, colour: str, size: float = 10.5) -> None:
    ax.set_title(text, color=colour, fontsize=size, loc="left", pad=8)
