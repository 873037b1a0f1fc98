"""Supports of distributions: tests of their kind, and bijections of the reals onto them.

Factors, guides, programs and queries use them.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch.distributions import Transform, biject_to, constraints, transform_to
from torch.distributions.constraints import Constraint
from torch.distributions.transforms import (
    AffineTransform,
    ComposeTransform,
    IndependentTransform,
    SoftplusTransform,
    identity_transform,
)

from pyro_lfm.distributions.positive_definite import PackedToPositiveDefinite
from pyro_lfm.distributions.support_maps import Exp, HalfLine, Interval, Sigmoid, StickBreaking


class Above(constraints.greater_than):
    """Numbers above a bound, onto which softplus maps the reals.

    A bound above zero keeps a scale away from zero, to which softplus underflows.

    >>> import torch
    >>> onto(Above(0.5))(torch.tensor([-100.0, 0.0]))
    tensor([0.5000, 1.1931])
    """


def onto(constraint: Constraint) -> Transform:
    """The map of the reals onto a constraint, from raw parameters to natural ones; the identity for whole numbers."""
    if constraint.is_discrete:
        return identity_transform
    if isinstance(constraint, Above):
        return ComposeTransform([SoftplusTransform(), AffineTransform(constraint.lower_bound, 1.0)])
    return transform_to(constraint)


def plain(support: Constraint) -> Constraint:
    """A support without the wrapper that torch's mixtures put around the support of their components.

    >>> import torch, pyro.distributions as dist
    >>> mixture = dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Gamma(torch.ones(2), 1.0))
    >>> plain(mixture.support)
    GreaterThanEq(lower_bound=0.0)
    """
    while hasattr(support, "base_constraint") and not isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def support_of_any_row(support: Constraint) -> Constraint:
    """The support of any row, from that of some rows: shared bounds become numbers, others make it a dependent one.

    >>> import torch, pyro.distributions as dist
    >>> support_of_any_row(dist.Binomial(10, torch.tensor([0.2, 0.5])).support)
    IntegerInterval(lower_bound=0, upper_bound=10.0)
    >>> torch.distributions.constraints.is_dependent(support_of_any_row(dist.Uniform(torch.zeros(2), torch.rand(2)).support))
    True
    """
    if isinstance(support, constraints.independent):
        inner = support_of_any_row(support.base_constraint)
        return constraints.independent(inner, support.reinterpreted_batch_ndims)
    bounds = {name: value for name, value in vars(support).items() if isinstance(value, torch.Tensor)}
    if not bounds:
        return support
    if any(bool((value != value.flatten()[0]).any()) for value in bounds.values()):
        return constraints.dependent(is_discrete=support.is_discrete, event_dim=support.event_dim)
    shared = copy.copy(support)
    for name, value in bounds.items():
        setattr(shared, name, value.flatten()[0].item())
    return shared


def support_of_one_row(support: Constraint, events: int) -> Constraint:
    """The support of one row, from that of several rows: bounds lose their batch dimensions where all rows share them.

    Args:
        events: the number of dimensions of one value.

    >>> import torch, pyro.distributions as dist
    >>> support_of_one_row(dist.Pareto(torch.ones(2, 3), 1.0).to_event(1).support, 1).base_constraint.lower_bound
    tensor([1., 1., 1.])
    """
    if isinstance(support, constraints.independent):
        inner = support_of_one_row(support.base_constraint, events)
        return constraints.independent(inner, support.reinterpreted_batch_ndims)
    shared = copy.copy(support)
    for name, value in vars(support).items():
        if isinstance(value, torch.Tensor) and value.dim() > events:
            rows = value.flatten(0, value.dim() - events - 1)
            if bool((rows == rows[0]).all()):
                setattr(shared, name, rows[0])
    return shared


def entrywise(support: Constraint) -> Constraint:
    """The support of one entry of an event whose entries share their support."""
    support = plain(support)
    while isinstance(support, constraints.independent):
        support = plain(support.base_constraint)
    return support


def is_real(support: Constraint) -> bool:
    """Whether every entry of a support can be any real number."""
    # By type, since a copied or unpickled support is another object.
    return isinstance(entrywise(support), type(constraints.real))


def is_positive(support: Constraint) -> bool:
    """Whether every entry of a support lies above zero."""
    each = entrywise(support)
    if isinstance(each, type(constraints.positive_integer)):
        return each.lower_bound >= 1
    return isinstance(each, constraints.greater_than) and bool(torch.as_tensor(each.lower_bound >= 0).all())


def from_reals(support: Constraint) -> Any:
    """The bijection of the reals onto a support; None where none is known.

    For half-lines, intervals, the simplex and positive definite matrices it is the library's (``support_maps``), whose
    values never reach the boundary. For other supports it is torch's ``biject_to``.
    """
    support = plain(support)
    if isinstance(support, constraints.independent):
        inner = from_reals(support.base_constraint)
        if inner is None:
            return None
        return IndependentTransform(inner, support.reinterpreted_batch_ndims)
    if isinstance(support, type(constraints.positive_definite)):
        # torch's own maps whole matrices, half of whose entries have no effect.
        return PackedToPositiveDefinite()
    if isinstance(support, Above):
        return onto(support)
    if isinstance(support, constraints.greater_than | constraints.greater_than_eq):
        return Exp() if _equals(support.lower_bound, 0) else HalfLine(support.lower_bound, 1)
    if isinstance(support, constraints.less_than):
        return HalfLine(support.upper_bound, -1)
    if isinstance(support, constraints.interval | constraints.half_open_interval):
        unit = _equals(support.lower_bound, 0) and _equals(support.upper_bound, 1)
        return Sigmoid() if unit else Interval(support.lower_bound, support.upper_bound)
    if isinstance(support, type(constraints.simplex)):
        return StickBreaking()
    try:
        return biject_to(support)
    except NotImplementedError:
        return None


def _equals(bound: torch.Tensor | float, number: int) -> bool:
    return isinstance(bound, int | float) and bound == number
