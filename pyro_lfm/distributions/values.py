"""What is a law, and the values of discrete ones that have few."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin


def is_law(value: Any) -> bool:
    """Whether it is a distribution that Pyro can sample from; those of torch.distributions alone are not."""
    return isinstance(value, TorchDistributionMixin)


def all_values(law: Any, most: int = 256) -> torch.Tensor | None:
    """Every value of a discrete law, (C, *event); None where they are not finitely many, or more than ``most``.

    Entries that are independent, as in Bernoulli(D), give the product of their values.

    >>> import pyro.distributions as dist
    >>> all_values(dist.Categorical(torch.ones(3)))
    tensor([0, 1, 2])
    >>> all_values(dist.Bernoulli(torch.ones(2) / 2).to_event(1)).tolist()
    [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    >>> all_values(dist.Poisson(1.0)) is None
    True
    """
    base = law
    while isinstance(base, torch.distributions.Independent):
        base = base.base_dist
    if not base.has_enumerate_support or base.event_shape:
        return None
    each = base.enumerate_support(expand=False).flatten()
    entries = law.event_shape.numel()
    if len(each) ** entries > most:
        return None
    if not law.event_shape:
        return each
    rows = [torch.stack(row) for row in itertools.product(each, repeat=entries)]
    return torch.stack(rows).reshape(-1, *law.event_shape)


def summable(law: Any) -> Any:
    """What a sample statement says in ``infer=`` where its value may be summed out.

    Not in Pyro's words, {"enumerate": "parallel"}, of which its sampling objectives warn.

    >>> import pyro.distributions as dist
    >>> summable(dist.Categorical(torch.ones(3))), summable(dist.Poisson(1.0))
    ({'sum_out': True}, {})
    """
    return {} if all_values(law) is None else {"sum_out": True}


def may_be_summed(infer: dict[str, Any] | None) -> bool:
    """Whether a sample statement says so, in our words or in Pyro's."""
    infer = infer or {}
    return infer.get("enumerate") == "parallel" or bool(infer.get("sum_out"))
