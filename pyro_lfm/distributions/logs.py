"""Draws that keep their logarithms.

A share of e⁻²⁰⁰ is no number of single precision, and 1 − x has no digit left where x rounds to 1; yet densities such as
x^(−0.95) are made of just those logarithms. A draw that was made from its logarithm therefore carries it: the value is
kept inside the support, and every density of the library that needs ln x or ln(1 − x) asks ``log_of`` and
``log_complement_of``. The mark goes with the very tensor, as a draw goes from the guide to the model; a tensor computed
from it has none, and its logarithm is taken as usual.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

_MARK = "_pyro_lfm_logs"


@dataclass(frozen=True)
class Logs:
    """What is known of a draw beside its value.

    Attributes:
        log: ln x. complement: ln(1 − x), entry by entry; of shares and positive numbers there is none.
        free: the point on the reals that ``transforms`` carried to x.
        noise: the standard normal numbers that a Gaussian of mean ``noise_of`` made x of.
    """

    log: Tensor | None = None
    complement: Tensor | None = None
    free: Tensor | None = None
    transforms: Any = None
    noise: Tensor | None = None
    noise_of: Tensor | None = None


def mark(value: Tensor, **known: Any) -> Tensor:
    """The tensor itself, which now carries what is known of it."""
    setattr(value, _MARK, replace(logs_of(value), **known))
    return value


def logs_of(value: Tensor) -> Logs:
    return getattr(value, _MARK, None) or Logs()


def changed(value: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """A tensor changed without its numbers being changed, as by ``detach``, with what it carries changed alike."""
    known, new = logs_of(value), change(value)
    kept = {name: part for name, part in vars(known).items() if isinstance(part, Tensor)}
    if not kept:
        return new
    return mark(new, transforms=known.transforms, **{name: change(part) for name, part in kept.items()})


def log_of(value: Tensor) -> Tensor:
    """ln x.

    >>> draw = within(torch.tensor([-200.0]))
    >>> draw.log(), log_of(draw)
    (tensor([-87.3365]), tensor([-200.]))
    """
    log = logs_of(value).log
    return value.log() if log is None else log


def log_complement_of(value: Tensor) -> Tensor:
    """ln(1 − x)."""
    complement = logs_of(value).complement
    return torch.log1p(-value) if complement is None else complement


def within(log: Tensor, complement: Tensor | None = None, most: float | None = None) -> Tensor:
    """exp(log), at least the smallest normal number and at most ``most``, by default the largest, marked."""
    limits = torch.finfo(log.dtype)
    # Cut before exp, which beyond it is infinite, and has no gradient.
    highest = 0.0 if most is not None and most <= 1 else math.log(most or limits.max) - 1e-5
    value = log.clamp_max(highest).exp()
    return mark(value.clamp(limits.tiny, most), log=log, complement=complement)


def below_one(kind: torch.dtype) -> float:
    """The largest number below 1."""
    return 1 - torch.finfo(kind).eps / 2
