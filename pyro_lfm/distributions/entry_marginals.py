"""The marginal distributions of the entries of an event; decompositions of the bound by factor use them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pyro.distributions import Normal
from torch.distributions import Distribution, Transform
from torch.distributions.transforms import IndependentTransform

from pyro_lfm.distributions.interface import without_independent
from pyro_lfm.distributions.kl import gaussian_moments, kl_closed_form
from pyro_lfm.distributions.pushforward import Pushforward


@dataclass(frozen=True)
class EntryMarginals:
    """The marginal distributions of the entries of an event.

    Attributes:
        distribution: batch shape (*batch, *event), event shape ().
        dims: the number of dimensions of the event.
        independent: whether the distribution of the whole event is the product of its marginals.
    """

    distribution: Distribution
    dims: int
    independent: bool

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """The log marginal density of each entry, (*batch, K)."""
        return self._flat(self.distribution.log_prob(value))

    def kl(self, other: EntryMarginals) -> torch.Tensor | None:
        """KL(self ‖ other) of each entry, (*batch, K); None where no closed form is known."""
        kl = kl_closed_form(self.distribution, other.distribution)
        return None if kl is None else self._flat(kl)

    def _flat(self, value: torch.Tensor) -> torch.Tensor:
        return value.flatten(value.dim() - self.dims) if self.dims else value.unsqueeze(-1)


def entry_marginals(distribution: Distribution) -> EntryMarginals | None:
    """The marginals of the entries of an event; None where they are not known.

    They are known for Gaussians with any covariance, for independent entries, and for both under transforms that act
    entry by entry.

    >>> distribution = torch.distributions.MultivariateNormal(torch.zeros(2), torch.tensor([[4.0, 1.0], [1.0, 1.0]]))
    >>> marginals = entry_marginals(distribution)
    >>> marginals.distribution.scale, marginals.independent
    (tensor([2., 1.]), False)
    """
    dims = len(distribution.event_shape)
    if isinstance(distribution, Pushforward) and not distribution.is_reshape:
        transforms = [entry for entry in map(_of_entry, distribution.transforms) if entry is not None]
        base = entry_marginals(distribution.base_dist)
        if base is None or len(transforms) < len(distribution.transforms) or base.dims != dims:
            return None
        onto = getattr(distribution.onto, "base_constraint", distribution.onto)
        return EntryMarginals(Pushforward(base.distribution, transforms, onto=onto), dims, base.independent)
    if (moments := gaussian_moments(distribution)) is not None:
        scale = moments.scale if moments.scale is not None else moments.variance.sqrt()
        shape = (*moments.loc.shape[:-1], *distribution.event_shape)
        independent = moments.tril is None or distribution.event_shape.numel() == 1
        return EntryMarginals(Normal(moments.loc.reshape(shape), scale.reshape(shape)), dims, independent)
    single = without_independent(distribution)
    return None if single.event_shape else EntryMarginals(single, dims, True)


def _of_entry(transform: Transform) -> Transform | None:
    """The transform of one entry; None if the transform mixes entries."""
    while isinstance(transform, IndependentTransform):
        transform = transform.base_transform
    return transform if transform.domain.event_dim == 0 == transform.codomain.event_dim else None
