"""Supports of distributions, told apart and carried to the reals."""

from __future__ import annotations

from typing import Any

from torch.distributions import biject_to, constraints


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
    try:
        return biject_to(plain(support))
    except NotImplementedError:
        return None
