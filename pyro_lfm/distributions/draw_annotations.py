"""Annotations of draws: the logarithm, the unconstrained value or the noise that a draw was computed from.

A share of e⁻²⁰⁰ underflows in single precision, and 1 − x has no digits left where x rounds to 1. Densities such as
x^(−0.95) need exactly those logarithms. So a draw that is computed from its logarithm carries it as an attribute, its
value is clamped to the inside of the support, and the densities of the library take ln x from ``log_of`` and ln(1 − x)
from ``log_complement_of``. The annotation belongs to one tensor object, on its way from the guide to the model. A
tensor that is computed from a draw has no annotation, and its logarithm is computed from its value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.distributions import Transform

_ATTRIBUTE = "_pyro_lfm_annotations"


@dataclass(frozen=True)
class Annotations:
    """What a draw x was computed from; each field is None where it does not apply.

    Attributes:
        log: ln x. log_complement: ln(1 − x), entry by entry; None for shares and positive numbers.
        unconstrained: the real value that ``transforms`` mapped to x.
        noise: the standard normal draw that a Gaussian turned into x. noise_mean: the ``loc`` of that Gaussian.
    """

    log: Tensor | None = None
    log_complement: Tensor | None = None
    unconstrained: Tensor | None = None
    transforms: Sequence[Transform] | None = None
    noise: Tensor | None = None
    noise_mean: Tensor | None = None


def annotate(value: Tensor, **fields: Tensor | Sequence[Transform] | None) -> Tensor:
    """Adds fields of ``Annotations`` to a tensor, and returns the tensor."""
    setattr(value, _ATTRIBUTE, replace(annotations_of(value), **fields))  # type: ignore[arg-type]
    return value


def annotations_of(value: Tensor) -> Annotations:
    """The annotations of a tensor; empty ones if it has none."""
    return getattr(value, _ATTRIBUTE, None) or Annotations()


def map_annotated(value: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Applies a function that keeps all numbers, such as ``detach``, to a tensor and to its annotations."""
    annotations, image = annotations_of(value), function(value)
    tensors = {name: part for name, part in vars(annotations).items() if isinstance(part, Tensor)}
    if not tensors:
        return image
    images = {name: function(part) for name, part in tensors.items()}
    return annotate(image, transforms=annotations.transforms, **images)


def log_of(value: Tensor) -> Tensor:
    """ln x, from the annotation of x if it has one.

    >>> draw = exp_with_log(torch.tensor([-200.0]))
    >>> draw.log(), log_of(draw)
    (tensor([-87.3365]), tensor([-200.]))
    """
    log = annotations_of(value).log
    return value.log() if log is None else log


def log_complement_of(value: Tensor) -> Tensor:
    """ln(1 − x), from the annotation of x if it has one."""
    complement = annotations_of(value).log_complement
    return torch.log1p(-value) if complement is None else complement


def exp_with_log(log: Tensor, log_complement: Tensor | None = None, most: float | None = None) -> Tensor:
    """exp(log), annotated with ``log`` and ``log_complement``.

    The value is at least the smallest normal number and at most ``most``, by default the largest number of its type.
    """
    limits = torch.finfo(log.dtype)
    # Clamped before exp, which would overflow and have no gradient.
    highest = 0.0 if most is not None and most <= 1 else math.log(most or limits.max) - 1e-5
    value = log.clamp_max(highest).exp()
    return annotate(value.clamp(limits.tiny, most), log=log, log_complement=log_complement)


def largest_below_one(dtype: torch.dtype) -> float:
    """The largest number below 1 of a floating type."""
    return 1 - torch.finfo(dtype).eps / 2
