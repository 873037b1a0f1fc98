"""The loop of EM, variational EM and variational Bayes: E step, M step, and leaps that are kept only if they climb."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from pyro_lfm.errors import TrainingError
from pyro_lfm.exact.history import History, Step

State = TypeVar("State")
# Three small gains in a row: Anderson acceleration may pause for one or two iterations before it leaps on.
PATIENCE = 3


class Expectations(Protocol[State]):
    """What an E step leaves. ``gap``: KL(q ‖ p(z | x)), nats, summed over rows."""

    @property
    def gap(self) -> float: ...

    def bound_at(self, state: State) -> float:
        """The bound with this q and any parameters, nats, summed over rows."""
        ...


class Leap(Protocol[State]):
    """Where to go instead of the plain M step."""

    def propose(self, state: State, plain: State, found: Any) -> State | None: ...

    def forget(self) -> None: ...


def climb(
    state: State,
    expect: Callable[[State], Expectations[State]],
    improve: Callable[[State, Expectations[State]], State],
    leap: Leap[State] | None,
    *,
    rows: int,
    iterations: int,
    tolerance: float,
    likelihood: bool = True,
) -> tuple[State, History]:
    """Alternates E and M steps from ``state`` until the bound gains less than ``tolerance`` nats per row.

    A proposed leap is kept if the bound after its E step is at least what the plain M step guarantees, so the bound
    after the E step never falls. With ``likelihood``, ln p = bound + gap is recorded.

    Raises TrainingError if the bound is no longer a number.
    """
    found = expect(state)
    bound = found.bound_at(state)
    steps: list[Step] = []

    def record(iteration: int, name: str, bound: float, evidence: float, accelerated: bool) -> None:
        if bound != bound:
            raise TrainingError(f"the bound is not a number at iteration {iteration}: raise min_scale")
        known = likelihood
        steps.append(
            Step(
                iteration,
                name,
                evidence / rows if known else None,
                bound / rows,
                (evidence - bound) / rows if known else None,
                accelerated,
            )
        )

    record(0, "E", bound, bound + found.gap, False)
    small = 0
    for iteration in range(1, iterations + 1):
        plain = improve(state, found)
        guaranteed = found.bound_at(plain)
        proposed = leap.propose(state, plain, found) if leap else None
        after = expect(proposed) if proposed is not None else None
        if proposed is not None and after is not None and after.bound_at(proposed) >= guaranteed:
            next_state, accelerated = proposed, True
        else:
            if leap and proposed is not None:
                leap.forget()
            next_state, after, accelerated = plain, expect(plain), False
        next_bound = after.bound_at(next_state)
        evidence = next_bound + after.gap
        record(iteration, "M", found.bound_at(next_state), evidence, accelerated)
        record(iteration, "E", next_bound, evidence, False)
        small = small + 1 if next_bound - bound < tolerance * rows else 0
        state, found, bound = next_state, after, next_bound
        if small == PATIENCE:
            return state, History(tuple(steps), True)
    return state, History(tuple(steps), False)
