"""A law whose value is known in some rows."""

from __future__ import annotations

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions.score_parts import ScoreParts

from pyro_lfm.distributions.logs import log_complement_of, log_of, logs_of, mark
from pyro_lfm.distributions.values import has_mass

# log 0, but so that a probability of zero times it is zero.
_NEVER = -1e4


class Pinned(dist.TorchDistribution):
    """``law`` in the rows where nothing is known, and in the others the known value, with probability one.

    Args:
        law: batch (..., B).
        value: (B, *event).
        known: whether the value of a row is known, (B,).

    >>> known = torch.tensor([True, False])
    >>> pinned = Pinned(dist.Categorical(torch.ones(2, 4)), torch.tensor([3.0, 0.0]), known)
    >>> pinned.probs[0], pinned.log_prob(torch.tensor([3, 3])).exp()
    (tensor([0., 0., 0., 1.]), tensor([1.0000, 0.2500]))
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, law: Any, value: torch.Tensor, known: torch.Tensor):
        self.law, self.value, self.known = law, value, known
        batch = torch.broadcast_shapes(law.batch_shape, known.shape)
        super().__init__(batch, law.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        return self.law.support

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.law.has_rsample

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        return self.law.has_enumerate_support

    def enumerate_support(self, expand: bool = True) -> torch.Tensor:
        return self.law.enumerate_support(expand)

    @property
    def partly_reparametrized(self) -> bool:
        """Whether its draws carry the gradients of some parameters only, as those of ``law``."""
        return getattr(self.law, "partly_reparametrized", False)

    def score_parts(self, value: torch.Tensor) -> ScoreParts:
        parts = self.law.score_parts(value)
        # A known value is no draw: it has no score.
        score, entropy = (
            torch.where(self.known, torch.zeros_like(part), part)
            for part in map(torch.as_tensor, (parts.score_function, parts.entropy_term))
        )
        return ScoreParts(self.log_prob(value), score, entropy)

    def has_mass(self, value: torch.Tensor) -> torch.Tensor:
        """Where a discrete law gives a value a probability above zero; in known rows that is the known value alone."""
        return torch.where(self.known, self._is_known(value), has_mass(self.law, value))

    def _is_known(self, value: torch.Tensor) -> torch.Tensor:
        same = value == self.value.to(value.dtype)
        return same.flatten(-len(self.event_shape)).all(-1) if self.event_shape else same

    def expand(self, batch_shape: Any, _instance: Any = None) -> Pinned:
        return Pinned(self.law.expand(batch_shape), self.value, self.known)

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
        return self._put(self.law.sample(sample_shape))

    def rsample(self, sample_shape: Any = ()) -> torch.Tensor:
        return self._put(self.law.rsample(sample_shape))

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        point = torch.where(self._is_known(value), 0.0, _NEVER)
        found = self.law.log_prob(value)
        return torch.where(self.known, point.to(found.dtype), found)

    @property
    def probs(self) -> torch.Tensor:
        """Of categories (..., B, C); of a law of another kind, as it has them."""
        found = self.law.probs
        if not isinstance(self.law, torch.distributions.Categorical):
            return self._put(found)
        each = torch.arange(found.shape[-1], device=found.device) == self.value.unsqueeze(-1)
        return torch.where(self.known.unsqueeze(-1), each.to(found.dtype), found)

    @property
    def mean(self) -> torch.Tensor:
        return self._put(self.law.mean)

    @property
    def variance(self) -> torch.Tensor:
        found = self.law.variance
        return torch.where(_wide(self.known, len(self.event_shape)), torch.zeros_like(found), found)


def _wide(known: torch.Tensor, events: int) -> torch.Tensor:
    return known.reshape(*known.shape, *(1,) * events)
