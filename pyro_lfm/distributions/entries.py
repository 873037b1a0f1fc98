"""The law of each entry of an event for itself."""

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
    """The marginal laws of the entries of an event.

    Attributes:
        law: batch (*batch, *event), event ().
        dims: of the event.
        independent: whether the law of the whole event is their product.
    """

    law: Any
    dims: int
    independent: bool

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """log of the density of each entry, (*batch, K)."""
        return self._flat(self.law.log_prob(value))

    def kl(self, other: Entries) -> torch.Tensor | None:
        """KL to the other's laws entry by entry, (*batch, K); None where no closed form is known."""
        found = kl_closed_form(self.law, other.law)
        return None if found is None else self._flat(found)

    def _flat(self, value: torch.Tensor) -> torch.Tensor:
        return value.flatten(value.dim() - self.dims) if self.dims else value.unsqueeze(-1)


def entries_of(law: Any) -> Entries | None:
    """Of Gaussians with any covariance, of independent entries, and of either carried onto a support entry by entry; None
    for other laws, whose marginals are not known.

    >>> law = torch.distributions.MultivariateNormal(torch.zeros(2), torch.tensor([[4.0, 1.0], [1.0, 1.0]]))
    >>> found = entries_of(law)
    >>> found.law.scale, found.independent
    (tensor([2., 1.]), False)
    """
    dims = len(law.event_shape)
    if isinstance(law, Pushforward) and not law.is_reshape:
        transforms = [_of_entry(transform) for transform in law.transforms]
        base = entries_of(law.base_dist)
        if base is None or None in transforms or base.dims != dims:
            return None
        onto = getattr(law.onto, "base_constraint", law.onto)
        return Entries(Pushforward(base.law, transforms, onto=onto), dims, base.independent)
    if (moments := gaussian_moments(law)) is not None:
        scale = moments.scale
        if scale is None:
            scale = moments.tril.square().sum(-1).sqrt()  # type: ignore[union-attr]
        shape = (*moments.loc.shape[:-1], *law.event_shape)
        independent = moments.tril is None or law.event_shape.numel() == 1
        return Entries(Normal(moments.loc.reshape(shape), scale.reshape(shape)), dims, independent)
    while isinstance(law, Independent):
        law = law.base_dist
    return None if law.event_shape else Entries(law, dims, True)


def _of_entry(transform: Any) -> Any:
    """A transform as it acts on one entry; None where entries are mixed."""
    while isinstance(transform, IndependentTransform):
        transform = transform.base_transform
    return transform if transform.domain.event_dim == 0 == transform.codomain.event_dim else None
