"""What is a distribution, and the values of discrete ones that have few."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin


def is_distribution(value: Any) -> bool:
    """Whether it is a distribution that Pyro can sample from; those of torch.distributions alone are not."""
    return isinstance(value, TorchDistributionMixin)


def all_values(distribution: Any, most: int = 256) -> torch.Tensor | None:
    """Every value of a discrete distribution, (C, *event); None where they are not finitely many, or more than ``most``.

    Entries that are independent, as in Bernoulli(D), give the product of their values.

    >>> import pyro.distributions as dist
    >>> all_values(dist.Categorical(torch.ones(3)))
    tensor([0, 1, 2])
    >>> all_values(dist.Bernoulli(torch.ones(2) / 2).to_event(1)).tolist()
    [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    >>> all_values(dist.Poisson(1.0)) is None
    True
    """
    base = distribution
    while isinstance(base, torch.distributions.Independent):
        base = base.base_dist
    if not base.has_enumerate_support or base.event_shape:
        return None
    each = base.enumerate_support(expand=False).flatten()
    entries = distribution.event_shape.numel()
    if len(each) ** entries > most:
        return None
    if not distribution.event_shape:
        return each
    rows = [torch.stack(row) for row in itertools.product(each, repeat=entries)]
    return torch.stack(rows).reshape(-1, *distribution.event_shape)


def has_mass(distribution: Any, value: torch.Tensor) -> torch.Tensor:
    """Where a discrete distribution gives a value a probability above zero, (..., batch).

    torch takes the logarithm of a probability that is given as 0 to be that of the smallest number by which 1 can grow,
    so that log_prob cannot tell it from one that is small.

    >>> import pyro.distributions as dist
    >>> distribution = dist.Categorical(torch.tensor([0.5, 0.5, 0.0]))
    >>> distribution.log_prob(torch.tensor(2)).isfinite(), has_mass(distribution, torch.tensor([0, 1, 2]))
    (tensor(True), tensor([ True,  True, False]))
    """
    own = getattr(distribution, "has_mass", None)
    if own is not None:
        return own(value)
    base, events = distribution, 0
    while isinstance(base, torch.distributions.Independent):
        events, base = events + base.reinterpreted_batch_ndims, base.base_dist
    log_prob = base.log_prob(value)
    mass = log_prob > -torch.inf
    probs = getattr(base, "probs", None)
    if probs is not None:
        if isinstance(base, torch.distributions.Categorical):
            shape = torch.broadcast_shapes(value.shape, base.batch_shape)
            index = value.long().expand(shape).unsqueeze(-1)
            none = probs.expand(*shape, probs.shape[-1]).gather(-1, index).squeeze(-1) == 0
        else:  # of a number of successes: none where each fails surely, all where each succeeds surely
            trials = getattr(base, "total_count", torch.ones_like(probs))
            none = ((probs == 0) & (value > 0)) | ((probs == 1) & (value < trials))
        # What a logit makes vanish in floating point is small all the same, and its logarithm far below this one.
        mass = mass & ~(none & (log_prob > 2 * math.log(torch.finfo(probs.dtype).eps)))
    return mass.flatten(-events).all(-1) if events else mass


def summable(distribution: Any) -> Any:
    """What a sample statement says in ``infer=`` where its value may be summed out.

    Not in Pyro's words, {"enumerate": "parallel"}, of which its sampling objectives warn.

    >>> import pyro.distributions as dist
    >>> summable(dist.Categorical(torch.ones(3))), summable(dist.Poisson(1.0))
    ({'sum_out': True}, {})
    """
    return {} if all_values(distribution) is None else {"sum_out": True}


def may_be_summed(infer: dict[str, Any] | None) -> bool:
    """Whether a sample statement says so, in our words or in Pyro's."""
    infer = infer or {}
    return infer.get("enumerate") == "parallel" or bool(infer.get("sum_out"))
