"""All tests of a guide and its model together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from pyro_lfm.errors import DeclarationError
from pyro_lfm.evaluate.calibration.coverage import Coverage, expected_coverage, tarp
from pyro_lfm.evaluate.calibration.exchange import LEVEL, seeds
from pyro_lfm.evaluate.calibration.predictive import PredictiveCheck, predictive_check
from pyro_lfm.evaluate.calibration.ranks import (
    SimulationBasedCalibration,
    VariationalCalibration,
    simulation_based_calibration,
    vsbc,
)
from pyro_lfm.evaluate.calibration.replicates import statistics_of
from pyro_lfm.evaluate.calibration.simulation import simulate
from pyro_lfm.evaluate.calibration.two_sample import TwoSample, classifier_two_sample
from pyro_lfm.evaluate.likelihood.estimate import LogLikelihood, importance, model_of, served
from pyro_lfm.evaluate.requirements import has_latents, rows_apart
from pyro_lfm.inference.result import Fit
from pyro_lfm.shapes import number, whole


@dataclass(frozen=True, repr=False, eq=False)
class Diagnosis:
    """What a guide and its model were tested for; print it for a report.

    Attributes:
        pareto: k̂ of each given row, and log p(x).
        sbc: ranks of every latent, of log q(z | x) and of log p(x, z).
        vsbc: symmetry of the ranks.
        coverage: of regions of highest density.
        tarp: of balls around random points.
        two_sample: what a classifier can tell apart.
        predictive: given rows against replicates of them.
        rows, draws: simulated rows N, and draws of each, L.
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
        """Of each test, by name."""
        return {name: getattr(self, name).p_value for name in _TESTS}

    @property
    def p_value(self) -> float:
        """Of all tests together: the least, times their number (Bonferroni)."""
        return min(1.0, len(_TESTS) * min(self.p_values.values()))

    def flagged(self, level: float = LEVEL) -> tuple[str, ...]:
        """The tests that reject at a level that holds for all of them together (Holm, 1979), the surest first.

        With an exact posterior and the true model any is named in at most a share ``level`` of cases.

        Raises:
            DeclarationError: a level that is not between 0 and 1.
        """
        level = number("level", level, least=0.0, above=True)
        if level >= 1:
            raise DeclarationError(f"level must be a probability below 1; got {level!r}")
        found: list[str] = []
        for name, p in sorted(self.p_values.items(), key=lambda pair: pair[1]):
            if p * (len(_TESTS) - len(found)) > level:
                break
            found.append(name)
        return tuple(found)

    @property
    def verdict(self) -> str:
        """What all tests say, in a sentence."""
        found = self.flagged()
        guide = [name for name in found if name != "predictive"]
        alone = [name for name, p in self.p_values.items() if p <= LEVEL]
        if not found and alone:
            return f"No test rejects when all are taken together; alone {', '.join(alone)} would: more rows can tell."
        if not found:
            return "No test rejects: the draws of the guide look like the posterior's, the data like the model's."
        if not guide:
            return "The guide passes as the posterior, but the data do not look like what the model makes of them."
        named = f"The guide is not the posterior: {', '.join(guide)} reject{'s' * (len(guide) == 1)} it."
        if "predictive" in found:
            named += " The data differ from their replicates too, which the guide or the model may be the cause of."
        return named

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
    fit: Fit | tuple[Any, Any],
    data: Any = None,
    rows: int = 1000,
    draws: int = 100,
    replicates: int = 199,
    weights: int = 1000,
    seed: int = 0,
) -> Diagnosis:
    """Is q(z | x) the posterior p(z | x), and does the model fit the data?

    The first is asked of rows that the model makes itself, z*, x ~ p(z, x), whose latents are known: if q is the posterior,
    z* is one more draw from q(z | x), and every test here looks for a way in which it is not. The second is asked of
    the given rows: with z ~ q(z | x), do they look like x_rep ~ p(x | z)? A guide that is off may show there too.

    Simulated rows take covariates and missing entries from given ones. Labels among the latents are tested as one column
    for each category. Rows to which parameters were fitted look more like their replicates than they should: give others.

    Args:
        fit: what was fitted, or a pair (model, guide), declared or written by hand.
        data: rows as given to ``fit``; left out, those that were fitted. With a pair they are needed.
        rows: N ≥ 40 rows to simulate. draws: L ≥ 9 from q for each.
        replicates: R ≥ 19 of the given rows; fewer than 119 cannot reject alone where all tests are taken together.
        weights: S ≥ 2 importance weights for k̂ of each given row.

    Raises:
        DeclarationError: a latent is shared by all rows, or stands in a further plate; a guide with auxiliary draws.
        DataError: no data with a pair; a model with tables of rows.

    Source: those named by each test, and Vehtari et al. (2024) for k̂.

    >>> from pyro_lfm import ExactPosterior, Gaussian, Linear, Model, StandardNormal
    >>> model = Model(z=StandardNormal(2), x=Gaussian(4, mean=Linear())).double()
    >>> found = diagnose((model, ExactPosterior(model)), model.sample(50, seed=0)["x"], rows=100, draws=19, replicates=39)
    >>> found.flagged()
    ()
    """
    rows, draws = whole("rows", rows, least=40), whole("draws", draws, least=9)
    replicates, weights = whole("replicates", replicates, least=19), whole("weights", weights, least=2)
    rows_apart(model_of(fit), "lfm.evaluate.diagnose")
    has_latents(model_of(fit), "lfm.evaluate.diagnose")
    done, batch, guide = served(fit, data)
    parts = seeds(seed, 8)
    made = simulate(done, batch, rows, draws, parts[0])
    quantities = {
        "log q(z | x)": (made.log_q_truth, made.log_q_draws),
        "log p(x, z)": (made.log_p_truth, made.log_p_draws),
    }
    truth = torch.cat([made.truth, made.log_q_truth[:, None], made.log_p_truth[:, None]], 1)
    drawn = torch.cat([made.draws, made.log_q_draws[..., None], made.log_p_draws[..., None]], 2)
    names, statistics = statistics_of(done.model, guide, batch, replicates, parts[1])
    return Diagnosis(
        pareto=importance(done.model, guide, batch, weights, parts[2]),
        sbc=simulation_based_calibration(made.truth, made.draws, made.names, quantities, parts[3]),
        vsbc=vsbc(made.truth, made.draws, made.names, parts[4]),
        coverage=expected_coverage(made.log_q_truth, made.log_q_draws, parts[5]),
        tarp=tarp(made.truth, made.draws, seed=parts[6]),
        two_sample=classifier_two_sample(truth, drawn, made.x, parts[7]),
        predictive=predictive_check(statistics[0], statistics[1:], names),
        rows=rows,
        draws=draws,
    )
