"""Several starts of one ascent, of which the best goes on: half of them at each round, as in successive halving."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pyro_lfm.errors import DeclarationError

State = TypeVar("State")


@dataclass(frozen=True)
class Reached(Generic[State]):
    """Where a start has come.

    Attributes:
        state: the parameters.
        value: what is maximised, in nats per row.
        unbounded: the value lies where it would grow without bound, so that it says nothing.
        converged: going on would gain nothing.
    """

    state: State
    value: float
    unbounded: bool = False
    converged: bool = False


Advance = Callable[[State, int], Reached[State]]


@dataclass(frozen=True)
class Won(Generic[State]):
    """The start that won, and the values that all starts reached, best first, the winner's own at the head.

    Starts whose value is unbounded count only if there are no others.
    """

    state: State
    ends: tuple[float, ...]


def race(starts: Iterable[State], advance: Advance[State], rounds: Sequence[int]) -> Won[State]:
    """Advances every start, then the better half of those that have not converged, and so on.

    A start that falls behind keeps the value that it had reached.

    Args:
        starts: at least one.
        advance: goes on from a state by at most so many iterations.
        rounds: the iterations of each round.

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
