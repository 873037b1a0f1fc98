"""Schedules: functions of the fraction of the training done, 0 to 1, for KL weights, penalties and learning rates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pyro_lfm.errors import DeclarationError
from pyro_lfm.shapes import number, whole


@dataclass(frozen=True)
class Ramp:
    """From ``start`` to ``end`` during the first ``until`` of each of ``cycles`` equal parts, then level."""

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

    def __call__(self, fraction: float) -> float:
        inside = self.cycles * fraction
        # The end of the training is the end of the last cycle, not the start of another.
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
    """Again and again a straight line from ``start`` to ``end``: in each of ``cycles`` equal parts as ``linear``.

    Source: Fu, Li, Liu, Gao, Celikyilmaz and Carin (2019), equations 6 and 7.

    Raises:
        DeclarationError: a negative value, ``until`` outside (0, 1], or no cycle.

    >>> [cyclical(cycles=2)(fraction) for fraction in (0.0, 0.125, 0.25, 0.5, 0.625, 1.0)]
    [0.0, 0.5, 1.0, 0.0, 0.5, 1.0]
    """
    return Ramp("linear", start, end, until, cycles)
