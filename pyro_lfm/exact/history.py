"""What exact inference did, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Step(NamedTuple):
    """The state after one step, in nats per row: log_likelihood = bound + kl wherever the likelihood is known.

    step: "E" (q improved, parameters held) or "M" (parameters improved, q held).
    log_likelihood: ln p(x | parameters) / N; None in variational Bayes, where the parameters are integrated out.
    bound: the evidence lower bound L(q, parameters) / N. kl: KL(q ‖ p(z | x)) / N; None with the likelihood.
    accelerated: whether this M step went beyond the plain M step.
    """

    iteration: int
    step: str
    log_likelihood: float | None
    bound: float
    kl: float | None
    accelerated: bool


@dataclass(frozen=True)
class History:
    """The steps of a run, whether it converged, and the columns whose noise sits on the floor ``min_scale``.

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
