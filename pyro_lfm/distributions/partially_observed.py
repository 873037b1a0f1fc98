"""A guide's distribution of a latent whose values the data hold in some rows, as labels in semi-supervised learning."""

from __future__ import annotations

from typing import ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions.score_parts import ScoreParts
from torch.distributions import Categorical, Distribution
from torch.distributions.constraints import Constraint

from pyro_lfm.distributions.discrete_values import has_mass
from pyro_lfm.distributions.draw_annotations import annotate, annotations_of, log_complement_of, log_of
from pyro_lfm.distributions.interface import Shape
from pyro_lfm.distributions.noise_draws import Noise, draw_from

# In place of log 0: a finite number, so that a probability of zero times it is zero.
_LOG_ZERO = -1e4


class PartiallyObserved(dist.TorchDistribution):
    """In rows with an observed value a point mass at it, in the other rows ``distribution``.

    Args:
        distribution: the distribution in rows without a value, batch shape (..., B).
        value: (B, *event).
        known: (B,), whether the value of a row is observed.

    >>> known = torch.tensor([True, False])
    >>> labels = PartiallyObserved(dist.Categorical(torch.ones(2, 4)), torch.tensor([3.0, 0.0]), known)
    >>> labels.probs[0], labels.log_prob(torch.tensor([3, 3])).exp()
    (tensor([0., 0., 0., 1.]), tensor([1.0000, 0.2500]))
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}

    def __init__(self, distribution: Distribution, value: torch.Tensor, known: torch.Tensor):
        self.distribution, self.value, self.known = distribution, value, known
        batch = torch.broadcast_shapes(distribution.batch_shape, known.shape)
        super().__init__(batch, distribution.event_shape, validate_args=False)

    @property
    def support(self) -> Constraint | None:
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
        """Whether draws have gradients for some parameters only, as those of ``distribution``."""
        return getattr(self.distribution, "partly_reparametrized", False)

    def score_parts(self, value: torch.Tensor) -> ScoreParts:
        parts = self.distribution.score_parts(value)  # type: ignore[attr-defined]
        # An observed value is not drawn, so it has no score.
        score, entropy = (
            torch.where(self.known, torch.zeros_like(part), part)
            for part in map(torch.as_tensor, (parts.score_function, parts.entropy_term))
        )
        return ScoreParts(self.log_prob(value), score, entropy)

    def has_mass(self, value: torch.Tensor) -> torch.Tensor:
        """Whether a value has a probability above zero, (..., batch): in observed rows only the observed value has."""
        return torch.where(self.known, self._is_known(value), has_mass(self.distribution, value))

    def _is_known(self, value: torch.Tensor) -> torch.Tensor:
        same = value == self.value.to(value.dtype)
        return same.flatten(-len(self.event_shape)).all(-1) if self.event_shape else same

    def expand(self, batch_shape: Shape, _instance: PartiallyObserved | None = None) -> PartiallyObserved:
        return PartiallyObserved(self.distribution.expand(torch.Size(batch_shape)), self.value, self.known)

    def _with_observed(self, drawn: torch.Tensor) -> torch.Tensor:
        """Draws (..., B, *event) with the observed values in their rows, annotated as the draws are."""
        known, value = _over_events(self.known, len(self.event_shape)), self.value.to(drawn.dtype)
        merged, annotations = torch.where(known, value, drawn), annotations_of(drawn)
        if annotations.log is not None:
            annotate(merged, log=torch.where(known, log_of(value), annotations.log))
        if (complement := annotations.log_complement) is not None:
            annotate(merged, log_complement=torch.where(known, log_complement_of(value), complement))
        return merged

    def sample(self, sample_shape: Shape = ()) -> torch.Tensor:
        return self._with_observed(self.distribution.sample(torch.Size(sample_shape)))

    def rsample(self, sample_shape: Shape = ()) -> torch.Tensor:
        return self._with_observed(self.distribution.rsample(torch.Size(sample_shape)))

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        point_mass = torch.where(self._is_known(value), 0.0, _LOG_ZERO)
        log_prob = self.distribution.log_prob(value)
        return torch.where(self.known, point_mass.to(log_prob.dtype), log_prob)

    @property
    def probs(self) -> torch.Tensor:
        """Probabilities (..., B, C) of categories; for another distribution those that it has, such as a Bernoulli's."""
        probs: torch.Tensor = self.distribution.probs  # type: ignore[attr-defined]
        if not isinstance(self.distribution, Categorical):
            return self._with_observed(probs)
        one_hot = torch.arange(probs.shape[-1], device=probs.device) == self.value.unsqueeze(-1)
        return torch.where(self.known.unsqueeze(-1), one_hot.to(probs.dtype), probs)

    @property
    def mean(self) -> torch.Tensor:
        return self._with_observed(self.distribution.mean)

    @property
    def variance(self) -> torch.Tensor:
        variance = self.distribution.variance
        known = _over_events(self.known, len(self.event_shape))
        return torch.where(known, torch.zeros_like(variance), variance)


@draw_from.register
def _(distribution: PartiallyObserved, noise: Noise) -> torch.Tensor:
    return distribution._with_observed(draw_from(distribution.distribution, noise))


def _over_events(known: torch.Tensor, events: int) -> torch.Tensor:
    """A mask of rows (B,) that broadcasts over the dimensions of an event."""
    return known.reshape(*known.shape, *(1,) * events)
