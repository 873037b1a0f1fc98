"""The record of an exact inference in a linear model, step by step; a Fit's history is made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Step(NamedTuple):
    """The numbers after one step, in nats per row. log_likelihood = bound + kl where the likelihood is known.

    step: "E" (q improved, parameters fixed) or "M" (parameters improved, q fixed).
    log_likelihood: ln p(x | parameters) / N; None in variational Bayes, where the parameters are integrated out.
    bound: the evidence lower bound L(q, parameters) / N. kl: KL(q ‖ p(z | x)) / N; None with the likelihood.
    accelerated: whether the parameters are those of an accelerated step instead of the plain M step.
    """

    iteration: int
    step: str
    log_likelihood: float | None
    bound: float
    kl: float | None
    accelerated: bool


@dataclass(frozen=True)
class History:
    """The steps of a run, whether it converged, and the columns whose noise is at the floor ``min_scale``.

    >>> History((Step(0, "E", -2.0, -2.0, 0.0, False),), True, ()).log_likelihood
    [-2.0]
    """

    steps: tuple[Step, ...]
    converged: bool
    floored: tuple[int, ...] = ()

    @property
    def log_likelihood(self) -> list[float]:
        """ln p(x | parameters) in nats per row, once per iteration, after its E step."""
        return [s.log_likelihood for s in self.steps if s.step == "E" and s.log_likelihood is not None]

    @property
    def bound(self) -> list[float]:
        """The bound in nats per row, once per iteration, after its E step."""
        return [s.bound for s in self.steps if s.step == "E"]
