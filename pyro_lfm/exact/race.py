"""Successive halving: an ascent from several starts, of which the better half goes on at each round.

EM with restarts uses it, for linear models and for mixtures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pyro_lfm.errors import DeclarationError

State = TypeVar("State")


@dataclass(frozen=True)
class Reached(Generic[State]):
    """The state that one start has reached.

    Attributes:
        state: the parameters.
        value: the objective, in nats per row.
        unbounded: whether the objective grows without bound there, so that its value is meaningless.
        converged: whether further iterations would gain nothing.
    """

    state: State
    value: float
    unbounded: bool = False
    converged: bool = False


Advance = Callable[[State, int], Reached[State]]


@dataclass(frozen=True)
class Won(Generic[State]):
    """The best state, and the values that all starts reached, best first.

    Starts whose value is unbounded are left out, unless there are no others.
    """

    state: State
    ends: tuple[float, ...]


def race(starts: Iterable[State], advance: Advance[State], rounds: Sequence[int]) -> Won[State]:
    """Advances every start, then the better half of them, and so on. Converged ones keep their place but do not advance.

    Args:
        starts: at least one.
        advance: continues from a state for at most a given number of iterations.
        rounds: the number of iterations of each round.

    Raises:
        DeclarationError: there are no starts.

    >>> def halve(x, iterations):
    ...     return Reached(x / 2**iterations, -abs(x / 2**iterations))
    >>> race([8.0, 4.0, 2.0], halve, [1, 1])
    Won(state=0.5, ends=(-0.5, -1.0, -4.0))
    """
    reached = [advance(start, rounds[0]) for start in starts]
    if not reached:
        raise DeclarationError("a race needs at least one start; got none")
    reached.sort(key=_rank, reverse=True)
    running = len(reached)
    for iterations in rounds[1:]:
        running = (running + 1) // 2
        for place, end in enumerate(reached[:running]):
            if not end.converged:
                reached[place] = advance(end.state, iterations)
        reached.sort(key=_rank, reverse=True)
    bounded = [end for end in reached if not end.unbounded] or reached
    return Won(bounded[0].state, tuple(end.value for end in bounded))


def _rank(end: Reached[State]) -> tuple[bool, float]:
    return not end.unbounded, end.value
