"""A distribution whose value is known in some rows."""

from __future__ import annotations

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions.score_parts import ScoreParts

from pyro_lfm.distributions.enumerable import has_mass
from pyro_lfm.distributions.logs import log_complement_of, log_of, logs_of, mark

# log 0, but so that a probability of zero times it is zero.
_NEVER = -1e4


class Pinned(dist.TorchDistribution):
    """``distribution`` in the rows where nothing is known, and in the others the known value, with probability one.

    Args:
        distribution: batch (..., B).
        value: (B, *event).
        known: whether the value of a row is known, (B,).

    >>> known = torch.tensor([True, False])
    >>> pinned = Pinned(dist.Categorical(torch.ones(2, 4)), torch.tensor([3.0, 0.0]), known)
    >>> pinned.probs[0], pinned.log_prob(torch.tensor([3, 3])).exp()
    (tensor([0., 0., 0., 1.]), tensor([1.0000, 0.2500]))
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, distribution: Any, value: torch.Tensor, known: torch.Tensor):
        self.distribution, self.value, self.known = distribution, value, known
        batch = torch.broadcast_shapes(distribution.batch_shape, known.shape)
        super().__init__(batch, distribution.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        return self.distribution.support

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.distribution.has_rsample

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        return self.distribution.has_enumerate_support

    def enumerate_support(self, expand: bool = True) -> torch.Tensor:
        return self.distribution.enumerate_support(expand)

    @property
    def partly_reparametrized(self) -> bool:
        """Whether its draws carry the gradients of some parameters only, as those of ``distribution``."""
        return getattr(self.distribution, "partly_reparametrized", False)

    def score_parts(self, value: torch.Tensor) -> ScoreParts:
        parts = self.distribution.score_parts(value)
        # A known value is no draw: it has no score.
        score, entropy = (
            torch.where(self.known, torch.zeros_like(part), part)
            for part in map(torch.as_tensor, (parts.score_function, parts.entropy_term))
        )
        return ScoreParts(self.log_prob(value), score, entropy)

    def has_mass(self, value: torch.Tensor) -> torch.Tensor:
        """Where a discrete distribution gives a value a probability above zero; in known rows that is the known value alone."""
        return torch.where(self.known, self._is_known(value), has_mass(self.distribution, value))

    def _is_known(self, value: torch.Tensor) -> torch.Tensor:
        same = value == self.value.to(value.dtype)
        return same.flatten(-len(self.event_shape)).all(-1) if self.event_shape else same

    def expand(self, batch_shape: Any, _instance: Any = None) -> Pinned:
        return Pinned(self.distribution.expand(batch_shape), self.value, self.known)

    def _put(self, drawn: torch.Tensor) -> torch.Tensor:
        """What is known in place of what is drawn, (..., B, *event)."""
        known, value = _wide(self.known, len(self.event_shape)), self.value.to(drawn.dtype)
        new, carried = torch.where(known, value, drawn), logs_of(drawn)
        if carried.log is not None:
            mark(new, log=torch.where(known, log_of(value), carried.log))
        if carried.complement is not None:
            mark(new, complement=torch.where(known, log_complement_of(value), carried.complement))
        return new

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        return self._put(self.distribution.sample(sample_shape))

    def rsample(self, sample_shape: Any = ()) -> torch.Tensor:
        return self._put(self.distribution.rsample(sample_shape))

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        point = torch.where(self._is_known(value), 0.0, _NEVER)
        found = self.distribution.log_prob(value)
        return torch.where(self.known, point.to(found.dtype), found)

    @property
    def probs(self) -> torch.Tensor:
        """Of categories (..., B, C); of a distribution of another kind, as it has them."""
        found = self.distribution.probs
        if not isinstance(self.distribution, torch.distributions.Categorical):
            return self._put(found)
        each = torch.arange(found.shape[-1], device=found.device) == self.value.unsqueeze(-1)
        return torch.where(self.known.unsqueeze(-1), each.to(found.dtype), found)

    @property
    def mean(self) -> torch.Tensor:
        return self._put(self.distribution.mean)

    @property
    def variance(self) -> torch.Tensor:
        found = self.distribution.variance
        return torch.where(_wide(self.known, len(self.event_shape)), torch.zeros_like(found), found)


def _wide(known: torch.Tensor, events: int) -> torch.Tensor:
    return known.reshape(*known.shape, *(1,) * events)
