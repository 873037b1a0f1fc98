"""``diagnose``: all calibration tests of a guide and its model, on rows that the model simulates and on the given rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pyro_lfm.errors import DeclarationError
from pyro_lfm.evaluate.calibration.coverage import Coverage, expected_coverage, tarp
from pyro_lfm.evaluate.calibration.exchange import LEVEL, split_seed
from pyro_lfm.evaluate.calibration.predictive import PredictiveCheck, predictive_check
from pyro_lfm.evaluate.calibration.ranks import (
    SimulationBasedCalibration,
    VariationalCalibration,
    simulation_based_calibration,
    variational_calibration,
)
from pyro_lfm.evaluate.calibration.two_sample import TwoSample, classifier_two_sample
from pyro_lfm.evaluate.diagnosis.replicates import statistics_of
from pyro_lfm.evaluate.diagnosis.simulation import simulate
from pyro_lfm.evaluate.inputs import Evaluated, Rows
from pyro_lfm.evaluate.likelihood.estimate import LogLikelihood, importance, model_of, served
from pyro_lfm.evaluate.requirements import has_latents, rows_apart
from pyro_lfm.shapes import number, whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False, eq=False)
class Diagnosis:
    """The results of all tests of a guide and its model. Print it for a report.

    Attributes:
        pareto: k̂ of each given row, and log p(x).
        sbc: ranks of every latent, of log q(z | x) and of log p(x, z).
        vsbc: symmetry of the ranks.
        coverage: coverage of regions of highest density.
        tarp: coverage of balls around random points.
        two_sample: a classifier between truths and draws.
        predictive: the given rows against replicates of them.
        rows, draws: simulated rows N, and draws of each, L.

    >>> import pyro_lfm as lfm, torch
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> pair = model, lfm.ExactPosterior(model)
    >>> report = lfm.evaluate.diagnose(pair, model.sample(40, seed=0)["x"], rows=40, draws=9, replicates=19, weights=20)
    >>> report.rows, report.draws, report.sbc.ranks.names
    (40, 9, ('z', 'log q(z | x)', 'log p(x, z)'))
    """

    pareto: LogLikelihood
    sbc: SimulationBasedCalibration
    vsbc: VariationalCalibration
    coverage: Coverage
    tarp: Coverage
    two_sample: TwoSample
    predictive: PredictiveCheck
    rows: int
    draws: int

    @property
    def p_values(self) -> dict[str, float]:
        """The p-value of each test, by name."""
        return {name: getattr(self, name).p_value for name in _TESTS}

    @property
    def p_value(self) -> float:
        """The p-value of all tests together: the smallest, times their number (Bonferroni)."""
        return min(1.0, len(_TESTS) * min(self.p_values.values()))

    def flagged(self, level: float = LEVEL) -> tuple[str, ...]:
        """The tests that reject at a level for all of them together (Holm, 1979), in the order of their p-values.

        With an exact posterior and the true model, the probability that any test is flagged is at most ``level``.

        Raises:
            DeclarationError: a level outside of (0, 1).
        """
        level = number("level", level, least=0.0, above=True)
        if level >= 1:
            raise DeclarationError(f"level must be a probability below 1; got {level!r}")
        rejecting: list[str] = []
        for name, p in sorted(self.p_values.items(), key=lambda pair: pair[1]):
            if p * (len(_TESTS) - len(rejecting)) > level:
                break
            rejecting.append(name)
        return tuple(rejecting)

    @property
    def verdict(self) -> str:
        """The result of all tests together, in a sentence."""
        rejecting = self.flagged()
        guide = [name for name in rejecting if name != "predictive"]
        alone = [name for name, p in self.p_values.items() if p <= LEVEL]
        if not rejecting and alone:
            return f"No test rejects when all are taken together. Alone {', '.join(alone)} would: simulate more rows."
        if not rejecting:
            return "No test rejects: the guide looks like the posterior, and the data look like draws from the model."
        if not guide:
            return "The guide passes as the posterior, but the data do not look like their replicates under the model."
        named = f"The guide is not the posterior: {', '.join(guide)} reject{'s' * (len(guide) == 1)} it."
        if "predictive" in rejecting:
            named += " The data differ from their replicates too. The cause may be the guide or the model."
        return named

    def plot(self, *, title: str | None = None) -> Figure:
        """All tests on one page, see ``lfm.plots.diagnosis``. The title is the verdict by default."""
        from pyro_lfm import plots

        return plots.diagnosis(self, title=title)

    def __repr__(self) -> str:
        flagged = self.flagged()
        lines = [f"Diagnosis: {self.rows} simulated rows, {self.draws} draws of each; {self._given()}"]
        lines.append(f"    {'pareto':<11}{'':<10}{self.pareto.verdict}")
        for name, p in self.p_values.items():
            mark = "!" if name in flagged else " "
            lines.append(f"  {mark} {name:<11}{f'p = {p:.3f}':<10}{getattr(self, name).verdict}")
        return "\n".join([*lines, self.verdict])

    def _given(self) -> str:
        return f"{len(self.pareto.per_row)} given rows, {len(self.predictive.replicated)} replicates"


_TESTS = ("sbc", "vsbc", "coverage", "tarp", "two_sample", "predictive")


def diagnose(
    fit: Evaluated,
    data: Rows | None = None,
    rows: int = 1000,
    draws: int = 100,
    replicates: int = 199,
    weights: int = 1000,
    seed: int = 0,
) -> Diagnosis:
    """Is q(z | x) the posterior p(z | x), and does the model fit the data?

    The first question is tested on rows that the model simulates, z*, x ~ p(z, x), whose latents are known. If q is the
    posterior, z* is one more draw from q(z | x), and each test looks for one kind of deviation from that. The second
    question is tested on the given rows: with z ~ q(z | x), do they look like x_rep ~ p(x | z)? A wrong guide can show there
    too.

    Simulated rows take covariates and missing entries from the given rows. A label among the latents is tested as one column
    for each category. Rows to which parameters were fitted look more like their replicates than they should: give others.

    Args:
        fit: a fit, or a pair (model, guide), declared or written by hand.
        data: rows as given to ``fit``. If left out, those that were fitted. A pair needs them.
        rows: N ≥ 40 rows to simulate.
        draws: L ≥ 9 from q for each.
        replicates: R ≥ 19 of the given rows. With fewer than 119 the predictive check cannot reject after the correction for
            all tests.
        weights: S ≥ 2 importance weights for k̂ of each given row.

    Raises:
        DeclarationError: a latent is shared by all rows, or stands in a further plate, or the guide has auxiliary draws.
        DataError: no data with a pair, or a model with tables of rows.

    Source: those named by each test, and Vehtari et al. (2024) for k̂.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear())).double()
    >>> pair = model, lfm.ExactPosterior(model)
    >>> lfm.evaluate.diagnose(pair, model.sample(50, seed=0)["x"], rows=100, draws=19, replicates=39).flagged()
    ()
    """
    rows, draws = whole("rows", rows, least=40), whole("draws", draws, least=9)
    replicates, weights = whole("replicates", replicates, least=19), whole("weights", weights, least=2)
    rows_apart(model_of(fit), "lfm.evaluate.diagnose")
    has_latents(model_of(fit), "lfm.evaluate.diagnose")
    done, batch, guide = served(fit, data)
    parts = split_seed(seed, 8)
    simulated = simulate(done, batch, rows, draws, parts[0])
    quantities = {
        "log q(z | x)": (simulated.log_q_truth, simulated.log_q_draws),
        "log p(x, z)": (simulated.log_p_truth, simulated.log_p_draws),
    }
    truth = torch.cat([simulated.truth, simulated.log_q_truth[:, None], simulated.log_p_truth[:, None]], 1)
    drawn = torch.cat(
        [simulated.draws, simulated.log_q_draws[..., None], simulated.log_p_draws[..., None]], 2
    )
    names, statistics = statistics_of(done.model, guide, batch, replicates, parts[1])
    return Diagnosis(
        pareto=importance(done.model, guide, batch, weights, parts[2]),
        sbc=simulation_based_calibration(
            simulated.truth, simulated.draws, simulated.names, quantities, parts[3]
        ),
        vsbc=variational_calibration(simulated.truth, simulated.draws, simulated.names, parts[4]),
        coverage=expected_coverage(simulated.log_q_truth, simulated.log_q_draws, parts[5]),
        tarp=tarp(simulated.truth, simulated.draws, seed=parts[6]),
        two_sample=classifier_two_sample(truth, drawn, simulated.x, parts[7]),
        predictive=predictive_check(statistics[0], statistics[1:], names),
        rows=rows,
        draws=draws,
    )
