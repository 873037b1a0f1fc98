"""The loop of EM, variational EM and variational Bayes: E steps, M steps, and accelerated steps kept if they gain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from pyro_lfm.errors import TrainingError
from pyro_lfm.exact.history import History, Step

State = TypeVar("State")
State_contra = TypeVar("State_contra", contravariant=True)
# The run ends after three small gains in a row: the plain M step may stand in for a few iterations before an
# accelerated step succeeds again.
PATIENCE = 3


class EStep(Protocol[State_contra]):
    """The result of an E step: the moments of the best q(z) at some parameters."""

    @property
    def gap(self) -> float:
        """KL(q ‖ p(z | x)) in nats, summed over rows."""

    def bound_at(self, state: State_contra, /) -> float:
        """The bound with this q and any parameters, in nats, summed over rows."""


Result = TypeVar("Result", bound=EStep[Any])
Result_contra = TypeVar("Result_contra", bound=EStep[Any], contravariant=True)


class Problem(Protocol[State, Result]):
    """The E step and the M step of a model."""

    def expect(self, state: State, /) -> Result: ...

    def improve(self, state: State, e_step: Result, /) -> State: ...


class Acceleration(Protocol[State, Result_contra]):
    """Proposes parameters in place of those of the plain M step, or None, and learns whether they were accepted."""

    def propose(self, state: State, plain: State, e_step: Result_contra, /) -> State | None: ...

    def accepted(self) -> None: ...

    def refused(self) -> None: ...


def coordinate_ascent(
    problem: Problem[State, Result],
    state: State,
    acceleration: Acceleration[State, Result] | None,
    *,
    rows: float,
    iterations: int,
    tolerance: float,
    likelihood: bool = True,
    watch: Callable[[State, tuple[Step, ...]], bool] | None = None,
) -> tuple[State, History]:
    """Alternates E and M steps from ``state`` until the bound gains less than ``tolerance`` nats per row.

    Accelerated parameters are kept if the bound after their E step is at least the bound that the plain M step
    guarantees, so the bound after the E step never falls.

    Args:
        rows: N, or the sum of the weights. iterations: the most iterations. tolerance: nats per row.
        likelihood: whether to record ln p = bound + gap.
        watch: called with the state and the steps of each iteration; ends the run where it returns True.

    Raises:
        TrainingError: the bound is no longer a number.
    """
    e_step = problem.expect(state)
    best = e_step.bound_at(state)
    steps: list[Step] = []

    def record(iteration: int, name: str, bound: float, evidence: float, accelerated: bool) -> None:
        if bound != bound:
            raise TrainingError(f"the bound is not a number at iteration {iteration}: raise min_scale")
        known = (evidence / rows, (evidence - bound) / rows) if likelihood else (None, None)
        steps.append(Step(iteration, name, known[0], bound / rows, known[1], accelerated))

    record(0, "E", best, best + e_step.gap, False)
    stopped = watch is not None and watch(state, tuple(steps))
    small_gains = 0
    for iteration in range(1, iterations * (not stopped) + 1):
        after = problem.improve(state, e_step)
        next_e_step, accelerated = None, False
        proposal = None if acceleration is None else acceleration.propose(state, after, e_step)
        if acceleration is not None and proposal is not None:
            next_e_step = problem.expect(proposal)
            accelerated = next_e_step.bound_at(proposal) >= e_step.bound_at(after)
            (acceleration.accepted if accelerated else acceleration.refused)()
        if proposal is not None and accelerated:
            after = proposal
        if next_e_step is None or not accelerated:
            next_e_step = problem.expect(after)
        bound = next_e_step.bound_at(after)
        record(iteration, "M", e_step.bound_at(after), bound + next_e_step.gap, accelerated)
        record(iteration, "E", bound, bound + next_e_step.gap, False)
        small_gains = small_gains + 1 if bound - best < tolerance * rows else 0
        state, e_step, best = after, next_e_step, max(best, bound)
        if (watch is not None and watch(state, tuple(steps[-2:]))) or small_gains == PATIENCE:
            break
    return state, History(tuple(steps), small_gains == PATIENCE)
