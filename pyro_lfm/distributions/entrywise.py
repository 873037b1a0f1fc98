"""The distribution of each entry of an event for itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions import Normal
from torch.distributions import Independent
from torch.distributions.transforms import IndependentTransform

from pyro_lfm.distributions.kl import gaussian_moments, kl_closed_form
from pyro_lfm.distributions.pushforward import Pushforward


@dataclass(frozen=True)
class Entries:
    """The marginal distributions of the entries of an event.

    Attributes:
        distribution: batch (*batch, *event), event ().
        dims: of the event.
        independent: whether the distribution of the whole event is their product.
    """

    distribution: Any
    dims: int
    independent: bool

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """log of the density of each entry, (*batch, K)."""
        return self._flat(self.distribution.log_prob(value))

    def kl(self, other: Entries) -> torch.Tensor | None:
        """KL to the other's distributions entry by entry, (*batch, K); None where no closed form is known."""
        found = kl_closed_form(self.distribution, other.distribution)
        return None if found is None else self._flat(found)

    def _flat(self, value: torch.Tensor) -> torch.Tensor:
        return value.flatten(value.dim() - self.dims) if self.dims else value.unsqueeze(-1)


def entries_of(distribution: Any) -> Entries | None:
    """Of Gaussians with any covariance, of independent entries, and of either carried onto a support entry by entry; None
    for other distributions, whose marginals are not known.

    >>> distribution = torch.distributions.MultivariateNormal(torch.zeros(2), torch.tensor([[4.0, 1.0], [1.0, 1.0]]))
    >>> found = entries_of(distribution)
    >>> found.distribution.scale, found.independent
    (tensor([2., 1.]), False)
    """
    dims = len(distribution.event_shape)
    if isinstance(distribution, Pushforward) and not distribution.is_reshape:
        transforms = [_of_entry(transform) for transform in distribution.transforms]
        base = entries_of(distribution.base_dist)
        if base is None or None in transforms or base.dims != dims:
            return None
        onto = getattr(distribution.onto, "base_constraint", distribution.onto)
        return Entries(Pushforward(base.distribution, transforms, onto=onto), dims, base.independent)
    if (moments := gaussian_moments(distribution)) is not None:
        scale = moments.scale
        if scale is None:
            scale = moments.tril.square().sum(-1).sqrt()  # type: ignore[union-attr]
        shape = (*moments.loc.shape[:-1], *distribution.event_shape)
        independent = moments.tril is None or distribution.event_shape.numel() == 1
        return Entries(Normal(moments.loc.reshape(shape), scale.reshape(shape)), dims, independent)
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return None if distribution.event_shape else Entries(distribution, dims, True)


def _of_entry(transform: Any) -> Any:
    """A transform as it acts on one entry; None where entries are mixed."""
    while isinstance(transform, IndependentTransform):
        transform = transform.base_transform
    return transform if transform.domain.event_dim == 0 == transform.codomain.event_dim else None
