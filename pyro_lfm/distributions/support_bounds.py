"""The bounds of a support, and whether two distributions have the same values.

Guides are compared with their priors by them, when they are declared and when values are summed out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, TransformedDistribution, constraints
from torch.distributions.constraints import Constraint

from pyro_lfm.distributions.interface import without_independent
from pyro_lfm.distributions.supports import entrywise, is_real, plain


@dataclass(frozen=True)
class SupportBounds:
    """The values that an entry can have: all numbers or all whole numbers between two bounds.

    low, high: one bound for all entries, or one for each entry.
    """

    discrete: bool
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, support: Constraint | None) -> SupportBounds | None:
        """The bounds of a constraint on single entries; None for others, such as the simplex."""
        if support is None:
            return None
        each = entrywise(support)
        if constraints.is_dependent(each) or each.event_dim:
            return None
        if isinstance(each, type(constraints.boolean)):
            return cls(True, torch.tensor(0.0), torch.tensor(1.0))
        if not (is_real(each) or hasattr(each, "lower_bound") or hasattr(each, "upper_bound")):
            return None
        low, high = (
            torch.as_tensor(getattr(each, name, end), dtype=torch.float64)
            for name, end in (("lower_bound", -torch.inf), ("upper_bound", torch.inf))
        )
        return cls(bool(each.is_discrete), low, high)

    @classmethod
    def of_distribution(cls, distribution: Distribution) -> SupportBounds | None:
        """The bounds of a distribution's values.

        For transformed ones they are computed through the transforms, since torch's support is the codomain of the last
        transform, which for an affine one is all reals.
        """
        distribution = without_independent(distribution)
        if (
            not isinstance(distribution, TransformedDistribution)
            or getattr(distribution, "onto", None) is not None
        ):
            return cls.of(distribution.support)
        base = cls.of_distribution(distribution.base_dist)
        if base is None or any(transform.codomain.event_dim for transform in distribution.transforms):
            return cls.of(distribution.support)
        ends = [base.low, base.high]
        for transform in distribution.transforms:
            ends = [transform(end.to(torch.get_default_dtype())).double() for end in ends]
        # A transform may be undefined at an infinite end. Then nothing is known of it.
        ends = [end.where(~end.isnan(), torch.inf * (1 if k else -1)) for k, end in enumerate(ends)]
        # The library's transforms return the least and the largest floating number in place of 0 and infinity.
        limits = torch.finfo(torch.get_default_dtype())
        ends = [end.where(end.abs() > 2 * limits.tiny, torch.zeros_like(end)) for end in ends]
        ends = [end.where(end.abs() < limits.max / 2, end.sign() * torch.inf) for end in ends]
        return cls(base.discrete, torch.minimum(*ends), torch.maximum(*ends))

    def within(self, other: SupportBounds) -> bool:
        """Whether all values of these bounds are values of the other ones."""
        slack = 1e-6 * (
            1 + torch.maximum(*_of_one_shape(other.low.abs(), other.high.abs())).nan_to_num(posinf=0.0)
        )
        low, others_low, slack_low = _of_one_shape(self.low, other.low, slack)
        high, others_high, slack_high = _of_one_shape(self.high, other.high, slack)
        return bool((low >= others_low - slack_low).all()) and bool((high <= others_high + slack_high).all())

    def words(self) -> str:
        """The bounds in words, for errors."""
        kind = "whole numbers" if self.discrete else "numbers"
        low, high = float(self.low.min()), float(self.high.max())
        if low == -torch.inf and high == torch.inf:
            return f"all {kind}"
        if high == torch.inf:
            return f"{kind} from {low:g}"
        return f"{kind} up to {high:g}" if low == -torch.inf else f"{kind} from {low:g} to {high:g}"


def _of_one_shape(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Broadcasts tensors. If they do not broadcast, as for batches of different rows, takes their extremes."""
    try:
        return torch.broadcast_tensors(*tensors)
    except RuntimeError:
        return tuple(torch.stack([tensor.min(), tensor.max()]) for tensor in tensors)


def compare_supports(
    q: Distribution, support: Constraint, bounds: SupportBounds | None = None
) -> tuple[bool, bool, str, str]:
    """Compares the values of a distribution q with those of another distribution p over the same event.

    Args:
        support: the support of p. bounds: the bounds of p, if they are narrower than its support says.

    Returns:
        Whether q has values that p has not, whether p has values that q has not, and the values of q and of p in words.
        Both are False if the supports depend on parameters and cannot be compared.
    """
    bounds_q = SupportBounds.of_distribution(q)
    bounds_p = SupportBounds.of(support) if bounds is None else bounds
    if bounds_q is not None and bounds_p is not None:
        same_kind = bounds_q.discrete == bounds_p.discrete
        wider = not (same_kind and bounds_q.within(bounds_p))
        narrower = not (same_kind and bounds_p.within(bounds_q))
        return wider, narrower, bounds_q.words(), bounds_p.words()
    assert q.support is not None  # for the type checker: every distribution of Pyro has a support
    support_q, support_p = (plain(entrywise(each)) for each in (q.support, support))
    words = str(support_q), str(support_p)
    if constraints.is_dependent(support_q) or constraints.is_dependent(support_p):
        return False, False, *words
    same = type(support_q) is type(support_p) and _numbers(support_q) == _numbers(support_p)
    return not same, not same, *words


def _numbers(constraint: Constraint) -> dict[str, list[float]]:
    """The numeric parameters of a constraint, such as the total of a composition."""
    numbers = {}
    for name, value in vars(constraint).items():
        if isinstance(value, Tensor):
            numbers[name] = value.flatten().unique().tolist()
        elif isinstance(value, int | float):
            numbers[name] = [float(value)]
    return numbers
