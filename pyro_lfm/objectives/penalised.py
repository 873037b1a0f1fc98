"""A bound less weighted penalties, as an objective of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, Self, cast

from torch import Tensor

from pyro_lfm.errors import DeclarationError
from pyro_lfm.objectives.bound import Bound
from pyro_lfm.objectives.enumeration import Plan
from pyro_lfm.objectives.objective import Names, Objective, Weight
from pyro_lfm.objectives.penalty import Penalty
from pyro_lfm.objectives.run import Run
from pyro_lfm.objectives.trace_sites import Arguments, Keywords, PyroProgram


class Penalised(Objective):
    """A bound less weighted penalties, per row, in nats: L − Σ λ · penalty.

    It serves to train, not to report. In the history bound, reconstruction and kl are those of the bound itself, without
    penalties. ``bound(...).penalties`` holds the penalties before their weights.

    Args:
        objective: the bound: ``ELBO``, ``ImportanceWeightedELBO`` or ``RenyiELBO``.
        penalties: ``TotalCorrelation``, ``MaximumMeanDiscrepancy``, ``Supervised``, or a ``Penalty`` of your own.

    Raises:
        DeclarationError: an objective without gradients through draws, or no penalty.

    Use it to train with a penalty, such as a β-TCVAE, an InfoVAE, or the classifier of M2.

    Limits: the sum is no bound on log p(x). Report the bound.

    Source: the sources of the penalties.

    >>> import pyro_lfm as lfm
    >>> lfm.Penalised(lfm.ELBO(), lfm.TotalCorrelation(weight=lambda fraction: 4 * fraction)).at(0.5).weights
    {'kl_weight': 1.0, 'TotalCorrelation.weight': 2.0}
    """

    def __init__(self, objective: Objective, *penalties: Penalty):
        if not isinstance(objective, Objective) or not objective.takes_penalties():
            raise DeclarationError(
                "Penalised takes lfm.ELBO(), lfm.ImportanceWeightedELBO() or lfm.RenyiELBO(), whose draws have "
                f"gradients, and all penalties at once; got {objective!r}"
            )
        if not penalties or not all(isinstance(penalty, Penalty) for penalty in penalties):
            raise DeclarationError(
                f"penalties must be such as lfm.TotalCorrelation(weight=5.0); got {penalties!r}"
            )
        super().__init__(objective.particles, objective.enumerate)
        self.objective, self.penalties = objective, penalties
        # The weights at a moment of the training; the penalties keep those of the declaration.
        self._weights: Mapping[str, Weight] = {f"{n}.weight": p.weight for n, p in self._named().items()}

    def _named(self) -> dict[str, Penalty]:
        """The penalties by the name of their class, with a number where a class occurs more than once."""
        kinds = [type(penalty).__name__ for penalty in self.penalties]
        return {
            kind if kinds.count(kind) == 1 else f"{kind}{kinds[: k + 1].count(kind)}": penalty
            for k, (kind, penalty) in enumerate(zip(kinds, self.penalties, strict=True))
        }

    @property
    def weights(self) -> Mapping[str, Weight]:
        return {**self.objective.weights, **self._weights}

    def weighted(self, weights: Mapping[str, Weight]) -> Self:
        inner = {name: weight for name, weight in weights.items() if name not in self._weights}
        own = {name: weights.get(name, weight) for name, weight in self._weights.items()}
        return self.replaced(objective=self.objective.weighted(inner), _weights=own)

    def at_end(self) -> Self:
        ended = super().at_end()
        penalties = []
        for name, penalty in ended._named().items():
            penalties.append(penalty.altered(weight=ended._weights[f"{name}.weight"]))
        return ended.replaced(penalties=tuple(penalties))

    def enumerating(self, how: Literal["auto", "never"]) -> Self:
        return self.replaced(enumerate=how, objective=self.objective.enumerating(how))

    def takes_penalties(self) -> bool:
        return False

    def takes_weights(self) -> bool:
        return self.objective.takes_weights() and all(penalty.takes_weights for penalty in self.penalties)

    def averages_draws(self) -> bool:
        return self.objective.averages_draws()

    def guide_climbs_value(self) -> bool:
        return self.objective.guide_climbs_value()

    def plan(self, model: PyroProgram, guide: PyroProgram, args: Arguments, kwargs: Keywords) -> Plan:
        return self.objective.plan(model, guide, args, kwargs)

    def run(self, model: PyroProgram, guide: PyroProgram, args: Arguments, kwargs: Keywords) -> Run:
        return self.objective.run(model, guide, args, kwargs)

    def estimate(self, run: Run) -> Bound:
        bound = self.objective.estimate(run)
        objective = bound.objective
        values: dict[str, Tensor] = {}
        for name, penalty in self._named().items():
            value = penalty.of(run, penalty.names(run))
            # A schedule is a number by now.
            objective = objective - cast(float | Tensor, self._weights[f"{name}.weight"]) * value
            values[name] = value.detach()
        return replace(bound, objective=objective, penalties=values)

    def describe(self, names: Names, run: Run) -> list[str]:
        lines = ["objective (no bound on log p): the following, less the penalties"]
        lines += [f"  {line}" for line in self.objective.describe(names, run)]
        for name, penalty in self._named().items():
            weight = self._weights[f"{name}.weight"]
            factor = "lambda(t)" if callable(weight) else f"{weight:g}"
            terms = " + ".join(penalty.formula.format(z=z) for z in penalty.names(run))
            lines.append(f"  - {factor} [{terms}]: Monte Carlo over the batch")
        return lines
