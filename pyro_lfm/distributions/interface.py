"""The types that the distributions of the library share, and the distribution inside ``Independent``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

from pyro.distributions import Independent as PyroIndependent
from pyro.distributions.torch_distribution import TorchDistribution, TorchDistributionMixin
from torch.distributions import Distribution, Independent
from torch.distributions.constraints import Constraint

from pyro_lfm.errors import DeclarationError

# A sample shape or a batch shape, as torch takes it.
Shape = Sequence[int]


def is_distribution(value: Any) -> TypeGuard[TorchDistribution]:
    """Whether Pyro can sample from a value; it cannot from those of torch.distributions.

    >>> import pyro, torch
    >>> is_distribution(pyro.distributions.Normal(0.0, 1.0)), is_distribution(torch.distributions.Normal(0.0, 1.0))
    (True, False)
    """
    return isinstance(value, TorchDistributionMixin)


def independent(distribution: Distribution, dims: int) -> Distribution:
    """The distribution with its last ``dims`` batch dimensions as event dimensions, as Pyro's ``to_event``."""
    if isinstance(distribution, Independent):
        return independent(distribution.base_dist, dims + distribution.reinterpreted_batch_ndims)
    return PyroIndependent(distribution, dims) if dims else distribution


def without_independent(distribution: Distribution) -> Distribution:
    """The distribution inside all ``Independent`` wrappers, whose event dimensions are batch dimensions again.

    >>> import pyro, torch
    >>> without_independent(pyro.distributions.Normal(torch.zeros(3), 1.0).to_event(1)).batch_shape
    torch.Size([3])
    """
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return distribution


def support_of(distribution: Distribution) -> Constraint:
    """The support of a distribution, which torch allows to be missing.

    >>> import pyro.distributions as dist
    >>> support_of(dist.Normal(0.0, 1.0))
    Real()
    """
    support = distribution.support
    if support is None:
        raise DeclarationError(f"a distribution must have a support; {type(distribution).__name__} has none")
    return support
