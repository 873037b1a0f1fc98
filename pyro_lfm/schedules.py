"""Schedules: functions of the fraction of the training done, 0 to 1, for KL weights, penalties and learning rates.

Users write ``lfm.schedules.linear()``. Objectives and ``SVI`` read a schedule by ``value_at``.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, SupportsFloat

from pyro_lfm.errors import DeclarationError
from pyro_lfm.probes import restoring
from pyro_lfm.shapes import number, whole

__all__ = ["cosine", "cyclical", "linear"]


def value_at(name: str, schedule: Callable[[float], SupportsFloat], fraction: float) -> float:
    """The value of a schedule at a fraction of the training, a finite number that is not negative.

    Args:
        name: the argument that holds the schedule, for the error.

    Raises:
        DeclarationError: the schedule gives something else, or raises.

    >>> value_at("kl_weight", lambda done: 1 - 2 * done, 0.25)
    0.5
    >>> value_at("kl_weight", lambda done: 1 - 2 * done, 0.75)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pyro_lfm.errors.DeclarationError: kl_weight is a schedule, ... at 0.75 it gave -0.5
    """
    wanted = f"{name} is a schedule, which must give a finite number >= 0 at every fraction of the training"
    try:
        returned = schedule(fraction)
    except Exception as error:  # whatever a user's function may raise
        raise DeclarationError(
            f"{wanted}; at {fraction:g} it raised {type(error).__name__}: {error}"
        ) from error
    # A tensor or array of one number counts as a number.
    value: Any = returned.item() if getattr(returned, "shape", None) == () else returned  # type: ignore[attr-defined]
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not math.isfinite(value) or value < 0:
        raise DeclarationError(f"{wanted}; at {fraction:g} it gave {returned!r}")
    return float(value)


def value_ahead(name: str, schedule: Callable[[float], SupportsFloat], fraction: float) -> float:
    """The value of a schedule at another moment than the present one. The call leaves the state of the schedule as it was.

    Raises:
        DeclarationError: as ``value_at``, or the schedule takes its values from an iterator.

    >>> value_ahead("schedule", lambda done: 1 - done, 0.25)
    0.75
    """
    try:
        with restoring(schedule):
            return value_at(name, schedule, fraction)
    except TypeError as error:
        raise DeclarationError(
            f"{name} is a schedule whose value at {fraction:g} is needed ahead of time, by patience=, validation=, "
            f"checkpoint= or fit.bound; {error}, which cannot be put back: make it a function of the fraction alone"
        ) from None


@dataclass(frozen=True)
class Ramp:
    """A schedule from ``start`` to ``end`` during the first ``until`` of each of ``cycles`` equal parts, then level."""

    shape: Literal["linear", "cosine"]
    start: float
    end: float
    until: float
    cycles: int = 1

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            object.__setattr__(self, name, number(name, getattr(self, name), least=0.0))
        object.__setattr__(self, "until", number("until", self.until, least=0.0, above=True))
        if self.until > 1:
            raise DeclarationError(f"until must be a fraction of at most 1; got {self.until!r}")
        object.__setattr__(self, "cycles", whole("cycles", self.cycles))

    def __repr__(self) -> str:
        """As it is written: ``schedules.cosine(start=1.0, end=0.0)``."""
        name, given = self.as_written
        return f"schedules.{name}({', '.join(f'{key}={value}' for key, value in given.items())})"

    @property
    def as_written(self) -> tuple[str, dict[str, float]]:
        """The function that makes it, and those of its arguments that are no defaults."""
        name = "cyclical" if self.cycles > 1 else self.shape
        default = {"start": 0.0, "end": 1.0, "until": 1.0 if name == "cosine" else 0.5, "cycles": 1}
        return name, {
            key: getattr(self, key) for key, value in default.items() if getattr(self, key) != value
        }

    def __call__(self, fraction: float) -> float:
        inside = self.cycles * fraction
        # The end of the training is the end of the last cycle, not the start of the next.
        inside = 1.0 if fraction >= 1 else inside - math.floor(inside)
        done = min(1.0, inside / self.until)
        if self.shape == "cosine":
            done = 0.5 - 0.5 * math.cos(math.pi * done)
        return self.start + (self.end - self.start) * done


def linear(start: float = 0.0, end: float = 1.0, until: float = 0.5) -> Ramp:
    """A straight line from ``start`` to ``end`` during the first ``until`` of the training, then ``end``.

    Source: Sønderby, Raiko, Maaløe, Sønderby and Winther (2016), section 2.3 (warm-up).

    Raises:
        DeclarationError: a negative value, or ``until`` outside (0, 1].

    >>> [linear(until=0.5)(fraction) for fraction in (0.0, 0.25, 0.5, 1.0)]
    [0.0, 0.5, 1.0, 1.0]
    """
    return Ramp("linear", start, end, until)


def cosine(start: float = 0.0, end: float = 1.0, until: float = 1.0) -> Ramp:
    """Half a cosine from ``start`` to ``end`` during the first ``until`` of the training, then ``end``.

    ``cosine(1.0, 0.0)`` is the schedule of learning rates of Loshchilov and Hutter (2017), equation 5, without restarts.

    Raises:
        DeclarationError: a negative value, or ``until`` outside (0, 1].

    >>> [round(cosine(1.0, 0.0)(fraction), 3) for fraction in (0.0, 0.25, 0.5, 1.0)]
    [1.0, 0.854, 0.5, 0.0]
    """
    return Ramp("cosine", start, end, until)


def cyclical(cycles: int = 4, start: float = 0.0, end: float = 1.0, until: float = 0.5) -> Ramp:
    """``linear`` repeated in each of ``cycles`` equal parts of the training.

    Source: Fu, Li, Liu, Gao, Celikyilmaz and Carin (2019), equations 6 and 7.

    Raises:
        DeclarationError: a negative value, ``until`` outside (0, 1], or no cycle.

    >>> [cyclical(cycles=2)(fraction) for fraction in (0.0, 0.125, 0.25, 0.5, 0.625, 1.0)]
    [0.0, 0.5, 1.0, 0.0, 0.5, 1.0]
    """
    return Ramp("linear", start, end, until, cycles)
