"""``JoinedRows``: distributions of blocks of rows written into one of all rows. ``Fit.posterior`` streams by it."""

from __future__ import annotations

from typing import Any, cast

import pyro.distributions as dist
from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.distributions.low_rank import LowRankGaussian
from pyro_lfm.distributions.normal import Normal

# The parameters that a distribution is made of.
_PARAMETERS: dict[type[Distribution], tuple[str, ...]] = {
    Normal: ("loc", "scale"),
    dist.Normal: ("loc", "scale"),
    dist.Laplace: ("loc", "scale"),
    dist.MultivariateNormal: ("loc", "scale_tril"),
    LowRankGaussian: ("loc", "scale", "loadings"),
    dist.Categorical: ("logits",),
    dist.Bernoulli: ("logits",),
}


class JoinedRows:
    """A distribution of batch shape (N,), which is made of those of blocks of rows, written into memory allocated once.

    Args:
        rows: N.

    >>> import torch
    >>> joined = JoinedRows(3)
    >>> first, second = (Normal(torch.zeros(n, 2), torch.ones(n, 2)).to_event(1) for n in (2, 1))
    >>> joined.write(first, 0), joined.write(second, 2)
    (True, True)
    >>> joined.distribution().batch_shape
    torch.Size([3])
    """

    def __init__(self, rows: int):
        self._rows = rows
        self._values: dict[str, Tensor] = {}
        self._kind: type[Distribution] | None = None
        self._events = 0

    def write(self, part: Distribution, start: int) -> bool:
        """Writes the distribution of a block of rows, from this row on; False where its kind cannot be joined."""
        events = 0
        while type(part) is dist.Independent:
            events += part.reinterpreted_batch_ndims
            part = part.base_dist
        # A distribution of logits has made no probabilities.
        names = _PARAMETERS.get(type(part), ())
        rows = len(part.batch_shape) == 1 + events
        if not names or not rows or (names == ("logits",) and "logits" not in vars(part)):
            return False
        if self._kind not in (None, type(part)):
            return False
        self._kind, self._events = type(part), events
        length = part.batch_shape[0]
        for name in names:
            value: Tensor = getattr(part, name)
            if name not in self._values:
                self._values[name] = value.new_empty(self._rows, *value.shape[1:])
            self._values[name][start : start + length] = value
        return True

    def distribution(self) -> Distribution:
        """The distribution of all rows."""
        kind = cast(Any, self._kind)
        return kind(**self._values, validate_args=False).to_event(self._events)
