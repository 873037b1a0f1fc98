"""Supports of distributions, told apart and carried to the reals."""

from __future__ import annotations

from typing import Any

from torch.distributions import biject_to, constraints
from torch.distributions.transforms import IndependentTransform

from pyro_lfm.distributions.positive_definite import PackedToPositiveDefinite


def plain(support: Any) -> Any:
    """A support without the wrapper that mixtures put around that of their components.

    >>> import torch, pyro.distributions as dist
    >>> mixture = dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Gamma(torch.ones(2), 1.0))
    >>> plain(mixture.support)
    GreaterThanEq(lower_bound=0.0)
    """
    while hasattr(support, "base_constraint") and not isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def entrywise(support: Any) -> Any:
    """The support of one entry, where that of an event is the same for each."""
    support = plain(support)
    while isinstance(support, constraints.independent):
        support = plain(support.base_constraint)
    return support


def is_real(support: Any) -> bool:
    """Whether a support is all the reals, entry by entry."""
    # By type: a copied or unpickled support is another object.
    return isinstance(entrywise(support), type(constraints.real))


def from_reals(support: Any) -> Any:
    """The bijection of the reals onto a support; None where none is known."""
    support = plain(support)
    if isinstance(support, constraints.independent) and support.event_dim > 2:
        inner = from_reals(support.base_constraint)
        if isinstance(inner, PackedToPositiveDefinite):
            return IndependentTransform(inner, support.reinterpreted_batch_ndims)
    if isinstance(support, type(constraints.positive_definite)):
        return (
            PackedToPositiveDefinite()
        )  # torch's own starts from whole matrices, half of which do not count
    try:
        return biject_to(support)
    except NotImplementedError:
        return None
