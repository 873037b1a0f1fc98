"""The values of discrete distributions, and which sample statements are summed over them exactly.

Models and guides mark such statements; the objectives' enumeration reads the marks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch
from pyro.poutine.runtime import InferDict
from torch.distributions import Categorical, Distribution, Independent

from pyro_lfm.distributions.interface import without_independent


def all_values(distribution: Distribution, most: int = 256) -> torch.Tensor | None:
    """All values of a discrete distribution, (C, *event); None if there are infinitely many or more than ``most``.

    Independent entries, as of Bernoulli(D), have all combinations of their values.

    >>> import pyro.distributions as dist
    >>> all_values(dist.Categorical(torch.ones(3)))
    tensor([0, 1, 2])
    >>> all_values(dist.Bernoulli(torch.ones(2) / 2).to_event(1)).tolist()
    [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    >>> all_values(dist.Poisson(1.0)) is None
    True
    """
    base = without_independent(distribution)
    if not base.has_enumerate_support or base.event_shape:
        return None
    entry_values = base.enumerate_support(expand=False).flatten()
    entries = distribution.event_shape.numel()
    if len(entry_values) ** entries > most:
        return None
    if not distribution.event_shape:
        return entry_values
    combinations = [torch.stack(values) for values in itertools.product(entry_values, repeat=entries)]
    return torch.stack(combinations).reshape(-1, *distribution.event_shape)


def has_mass(distribution: Distribution, value: torch.Tensor) -> torch.Tensor:
    """Whether a discrete distribution gives a value a probability above zero, (..., batch).

    torch clamps probabilities of 0 to its machine epsilon before it takes the logarithm, so log_prob alone cannot tell
    an impossible value from an improbable one.

    >>> import pyro.distributions as dist
    >>> distribution = dist.Categorical(torch.tensor([0.5, 0.5, 0.0]))
    >>> distribution.log_prob(torch.tensor(2)).isfinite(), has_mass(distribution, torch.tensor([0, 1, 2]))
    (tensor(True), tensor([ True,  True, False]))
    """
    own = getattr(distribution, "has_mass", None)
    if own is not None:
        return own(value)
    base, events = distribution, 0
    while isinstance(base, Independent):
        events, base = events + base.reinterpreted_batch_ndims, base.base_dist
    log_prob = base.log_prob(value)
    mass = log_prob > -torch.inf
    probs = getattr(base, "probs", None)
    if probs is not None:
        if isinstance(base, Categorical):
            shape = torch.broadcast_shapes(value.shape, base.batch_shape)
            index = value.long().expand(shape).unsqueeze(-1)
            impossible = probs.expand(*shape, probs.shape[-1]).gather(-1, index).squeeze(-1) == 0
        else:  # a number of successes
            trials = getattr(base, "total_count", torch.ones_like(probs))
            impossible = ((probs == 0) & (value > 0)) | ((probs == 1) & (value < trials))
        # A probability that a logit makes underflow is not 0. Its logarithm lies far below that of the clamped one.
        mass = mass & ~(impossible & (log_prob > 2 * math.log(torch.finfo(probs.dtype).eps)))
    return mass.flatten(-events).all(-1) if events else mass


def sum_out_hint(distribution: Distribution) -> InferDict:
    """The ``infer=`` argument of a sample statement, which marks values that can be summed out exactly.

    It is not Pyro's own {"enumerate": "parallel"}, because Pyro's sampling objectives warn of that.

    >>> import pyro.distributions as dist
    >>> sum_out_hint(dist.Categorical(torch.ones(3))), sum_out_hint(dist.Poisson(1.0))
    ({'sum_out': True}, {})
    """
    return {} if all_values(distribution) is None else {"sum_out": True}  # type: ignore[typeddict-unknown-key]


def may_be_summed(infer: Mapping[str, Any] | None) -> bool:
    """Whether ``infer=`` of a sample statement marks its values as summable, by our key or by Pyro's."""
    infer = infer or {}
    return infer.get("enumerate") == "parallel" or bool(infer.get("sum_out"))
