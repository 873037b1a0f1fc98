"""The loop of EM, variational EM and variational Bayes: E step, M step, and leaps that are kept only if they climb."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from pyro_lfm.errors import TrainingError
from pyro_lfm.exact.history import History, Step

State = TypeVar("State")
# Three small gains in a row: the plain M step may stand for one or two iterations before a leap goes on.
PATIENCE = 3


class Problem(Protocol[State]):
    """The two steps.

    What ``expect`` leaves has ``gap``, KL(q ‖ p(z | x)) in nats summed over rows, and ``bound_at(state)``, the bound
    with this q and any parameters, in the same unit.
    """

    def expect(self, state: State, /) -> Any: ...

    def improve(self, state: State, found: Any, /) -> State: ...


class Leap(Protocol[State]):
    """Where to go instead of the plain M step; None for nowhere."""

    def propose(self, state: State, plain: State, found: Any, /) -> State | None: ...

    def accepted(self) -> None: ...

    def refused(self) -> None: ...


def climb(
    problem: Problem[State],
    state: State,
    leap: Leap[State] | None,
    *,
    rows: int,
    iterations: int,
    tolerance: float,
    likelihood: bool = True,
    watch: Callable[[State, tuple[Step, ...]], bool] | None = None,
) -> tuple[State, History]:
    """Alternates E and M steps from ``state`` until the bound gains less than ``tolerance`` nats per row.

    A proposed leap is kept if the bound after its E step is at least what the plain M step guarantees, so the bound
    after the E step never falls. With ``likelihood``, ln p = bound + gap is recorded. ``watch(state, steps)`` is called
    with the steps of each iteration, and ends the run where it returns True.

    Raises TrainingError if the bound is no longer a number.
    """
    found = problem.expect(state)
    best = found.bound_at(state)
    steps: list[Step] = []

    def record(iteration: int, name: str, bound: float, evidence: float, accelerated: bool) -> None:
        if bound != bound:
            raise TrainingError(f"the bound is not a number at iteration {iteration}: raise min_scale")
        known = (evidence / rows, (evidence - bound) / rows) if likelihood else (None, None)
        steps.append(Step(iteration, name, known[0], bound / rows, known[1], accelerated))

    record(0, "E", best, best + found.gap, False)
    stopped = watch is not None and watch(state, tuple(steps))
    small = 0
    for iteration in range(1, iterations * (not stopped) + 1):
        plain = problem.improve(state, found)
        guaranteed = found.bound_at(plain)
        there = leap.propose(state, plain, found) if leap else None
        after: Any = None if there is None else problem.expect(there)
        accelerated = there is not None and after.bound_at(there) >= guaranteed
        if leap and there is not None:
            (leap.accepted if accelerated else leap.refused)()
        if there is None or not accelerated:
            there, after = plain, problem.expect(plain)
        reached = after.bound_at(there)
        record(iteration, "M", found.bound_at(there), reached + after.gap, accelerated)
        record(iteration, "E", reached, reached + after.gap, False)
        small = small + 1 if reached - best < tolerance * rows else 0
        state, found, best = there, after, max(best, reached)
        if (watch is not None and watch(state, tuple(steps[-2:]))) or small == PATIENCE:
            break
    return state, History(tuple(steps), small == PATIENCE)
