"""Where a distribution can draw: whether a guide puts mass where a prior has none, and whether a support is the true one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Independent, TransformedDistribution, constraints

from pyro_lfm.distributions.supports import entrywise, is_real, plain

# Draws by which a support is looked at, points at each of the places where the density is, entries and places.
_DRAWS, _POINTS, _ENTRIES, _PLACES = 1000, 2000, 4, 3
# Mass beyond all draws from which on it is a fault: the chance that so much is missed is (1 − 0.025)^1000 = 1e-11.
_MISSED = 0.025
# How far beyond the draws the density is looked at, and where it must not have ended, in widths of what the draws span.
_FAR, _NEAR = 30.0, 0.25
_LARGEST = 1e12
# Entries in all at whose places a wide density is looked at.
_NUMBERS = 2048
# Those of torch and Pyro whose support is what they declare; the others, such as VonMises, are looked at.
_NAMES = (
    *(
        "Bernoulli",
        "Beta",
        "Binomial",
        "Categorical",
        "Cauchy",
        "Exponential",
        "Gamma",
        "Gumbel",
        "HalfCauchy",
        "HalfNormal",
    ),
    *(
        "InverseGamma",
        "Kumaraswamy",
        "Laplace",
        "LogNormal",
        "LowRankMultivariateNormal",
        "MultivariateNormal",
    ),
    *("NegativeBinomial", "Normal", "Pareto", "Poisson", "StudentT", "Uniform", "Weibull"),
)
_KNOWN = frozenset(getattr(home, name) for home in (torch.distributions, dist) for name in _NAMES)


@dataclass(frozen=True)
class Extent:
    """The values that an entry can have: numbers, or whole numbers, between two bounds; of each entry where they differ."""

    discrete: bool
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, support: Any) -> Extent | None:
        """Of a constraint on single entries; None of any other, such as the simplex."""
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
    def of_distribution(cls, distribution: Any) -> Extent | None:
        """Of a distribution: torch takes the codomain of the last transform for the support, of affine ones all reals."""
        while isinstance(distribution, Independent):
            distribution = distribution.base_dist
        if (
            not isinstance(distribution, TransformedDistribution)
            or getattr(distribution, "onto", None) is not None
        ):
            return cls.of(distribution.support)
        extent = cls.of_distribution(distribution.base_dist)
        if extent is None or any(transform.codomain.event_dim for transform in distribution.transforms):
            return cls.of(distribution.support)
        ends = [extent.low, extent.high]
        for transform in distribution.transforms:
            ends = [transform(end.to(torch.get_default_dtype())).double() for end in ends]
        # What no map says, as at an end that is not finite.
        ends = [end.where(~end.isnan(), torch.inf * (1 if k else -1)) for k, end in enumerate(ends)]
        # Maps that keep within floating point end where it does: at the least number for 0, at the largest for infinity.
        kind = torch.finfo(torch.get_default_dtype())
        ends = [end.where(end.abs() > 2 * kind.tiny, torch.zeros_like(end)) for end in ends]
        ends = [end.where(end.abs() < kind.max / 2, end.sign() * torch.inf) for end in ends]
        return cls(extent.discrete, torch.minimum(*ends), torch.maximum(*ends))

    def within(self, other: Extent) -> bool:
        """Whether all its values are values of the other."""
        slack = 1e-6 * (
            1 + torch.maximum(*_of_one_shape(other.low.abs(), other.high.abs())).nan_to_num(posinf=0.0)
        )
        low, others_low, slack_low = _of_one_shape(self.low, other.low, slack)
        high, others_high, slack_high = _of_one_shape(self.high, other.high, slack)
        return bool((low >= others_low - slack_low).all()) and bool((high <= others_high + slack_high).all())

    def words(self) -> str:
        """As an error says it."""
        kind = "whole numbers" if self.discrete else "numbers"
        low, high = float(self.low.min()), float(self.high.max())
        if low == -torch.inf and high == torch.inf:
            return f"all {kind}"
        if high == torch.inf:
            return f"{kind} from {low:g}"
        return f"{kind} up to {high:g}" if low == -torch.inf else f"{kind} from {low:g} to {high:g}"


def _of_one_shape(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Broadcast to each other; where that does not go, as of batches of different rows, the least and the greatest."""
    try:
        return torch.broadcast_tensors(*tensors)
    except RuntimeError:
        return tuple(torch.stack([tensor.min(), tensor.max()]) for tensor in tensors)


def apart(q: Any, support: Any, theirs: Extent | None = None) -> tuple[bool, bool, str, str]:
    """How the values of a distribution q differ from those of another over the same event.

    Args:
        support: of the other distribution. theirs: its extent, where that is known better than from the support.

    Returns:
        Whether q has values that the other has not, whether the other has some that q has not, and the values of both in
        words. What cannot be told is not said.
    """
    ours, theirs = Extent.of_distribution(q), Extent.of(support) if theirs is None else theirs
    if ours is not None and theirs is not None:
        same_kind = ours.discrete == theirs.discrete
        wider = not (same_kind and ours.within(theirs))
        narrower = not (same_kind and theirs.within(ours))
        return wider, narrower, ours.words(), theirs.words()
    one, other = (plain(entrywise(each)) for each in (q.support, support))
    words = str(one), str(other)
    if constraints.is_dependent(one) or constraints.is_dependent(other):
        return False, False, *words
    same = type(one) is type(other) and _numbers(one) == _numbers(other)
    return not same, not same, *words


def _numbers(constraint: Any) -> dict[str, Any]:
    """The numbers that a constraint was made with, such as the total of a composition."""
    found = {}
    for name, value in vars(constraint).items():
        if isinstance(value, Tensor):
            found[name] = value.flatten().unique().tolist()
        elif isinstance(value, int | float):
            found[name] = [float(value)]
    return found


def beyond_draws(distribution: Any) -> str | None:
    """What is wrong with the support that a distribution declares, in words: it is wider than where it draws.

    Its draws lie between two numbers, and within the declared support beyond them its density is not negligible, as of
    ``dist.VonMises``, which repeats itself, or is no number, or ends all at once. It draws from torch's current stream.

    >>> import pyro.distributions as dist
    >>> beyond_draws(dist.Normal(0.0, 1.0)) is None, beyond_draws(dist.VonMises(0.0, 4.0))[:46]
    (True, 'it declares all numbers for its support, but i')
    """
    extent = Extent.of(distribution.support)
    if extent is None or getattr(distribution, "has_rsample", None) is None or _is_known(distribution):
        return None
    events = len(distribution.event_shape)
    with torch.no_grad():
        draws = distribution.sample(torch.Size((_DRAWS,)))
    if draws.dim() != 1 + len(distribution.batch_shape) + events:
        return None
    flat = draws.reshape(
        _DRAWS, torch.Size(distribution.batch_shape).numel(), torch.Size(distribution.event_shape).numel()
    )
    width = flat.shape[-1]
    entries = max(1, min(_ENTRIES, _NUMBERS // width))
    for entry in range(0, width, -(-width // entries)):
        fault = _beyond(distribution, extent, flat, entry)
        if fault is not None:
            return fault
    return None


def _is_known(distribution: Any) -> bool:
    """Whether a distribution is one of those that have the support that they declare: a subclass may declare another."""
    while isinstance(distribution, torch.distributions.Independent):
        distribution = distribution.base_dist
    return type(distribution) in _KNOWN


def _beyond(distribution: Any, extent: Extent, flat: Tensor, entry: int) -> str | None:
    column = flat[:, 0, entry].double().sort().values
    low, high = column[0], column[-1]
    span = high - low
    # Beyond, densities underflow in single precision whatever they are.
    if not bool((span > 0) & (span < _LARGEST) & (column.abs().max() < _LARGEST)):
        return None
    lower, upper = (
        bound.flatten()[entry if bound.numel() == flat.shape[-1] else 0].to(column.device)
        for bound in (extent.low, extent.high)
    )
    if extent.discrete:
        steps = torch.arange(1, 201, dtype=column.dtype, device=column.device)
        column = torch.arange(
            int(low), min(int(high), int(low) + _POINTS) + 1, dtype=column.dtype, device=column.device
        )
    else:
        steps = span * torch.logspace(
            -2, torch.tensor(_FAR).log10().item(), _POINTS, dtype=column.dtype, device=column.device
        )
    outside = [
        points[(points >= lower) & (points <= upper)] for points in ((low - steps).flip(0), high + steps)
    ]
    if not any(len(points) for points in outside):
        return None
    shares = []
    for place in range(_PLACES):
        parts = []
        for points in filter(len, (column, *outside)):
            log_p = _log_density(distribution, flat, place, entry, points)
            if log_p is None:
                return _words(extent, low, high, "log_prob refuses values beyond them")
            near = (points - high <= _NEAR * span) & (low - points <= _NEAR * span)
            if (
                not extent.discrete
                and points is not column
                and bool(near.any())
                and bool((log_p[near] == -torch.inf).all())
            ):
                return _words(extent, low, high, "it has no density beyond them")
            parts.append((points, log_p.double().nan_to_num(nan=-torch.inf)))
        top = parts[0][1].max()
        inner, *outer = (_mass(points, (log_p - top).exp(), extent.discrete) for points, log_p in parts)
        shares.append(float(sum(outer) / (inner + sum(outer))))
    if min(shares) > _MISSED:
        return _words(
            extent,
            low,
            high,
            f"its density goes on beyond them, with {100 * min(shares):.0f}% of the mass there",
        )
    return None


def _log_density(distribution: Any, flat: Tensor, place: int, entry: int, points: Tensor) -> Tensor | None:
    """log p where one entry of a draw takes other values; None where the distribution refuses them."""
    values = flat[place].expand(len(points), *flat.shape[1:]).clone()
    values[:, 0, entry] = points.to(values.dtype)
    try:
        with torch.no_grad():
            found = distribution.log_prob(
                values.reshape(len(points), *distribution.batch_shape, *distribution.event_shape)
            )
    except ValueError:
        return None
    return found.reshape(len(points), -1)[:, 0]


def _mass(points: Tensor, density: Tensor, discrete: bool) -> Tensor:
    if discrete:
        return density.sum()
    return torch.trapezoid(density, points) if len(points) > 1 else density.new_zeros(())


def _words(extent: Extent, low: Tensor, high: Tensor, why: str) -> str:
    return (
        f"it declares {extent.words()} for its support, but its draws lie between {float(low):.4g} and {float(high):.4g}, "
        f"and {why}: declare the support that it has, as in support = constraints.interval(low, high)"
    )
