"""Checks that a distribution draws on all of the support that it declares; programs, guides and ``lfm.testing`` use it."""

from __future__ import annotations

from dataclasses import dataclass

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.distributions.correlated import CorrelatedGaussian
from pyro_lfm.distributions.count_distributions import Binomial, NegativeBinomial, Poisson
from pyro_lfm.distributions.gamma import Beta, Gamma
from pyro_lfm.distributions.heavy_tails import HalfCauchy, LogNormal, StudentT
from pyro_lfm.distributions.interface import without_independent
from pyro_lfm.distributions.kumaraswamy import Kumaraswamy
from pyro_lfm.distributions.low_rank import LowRankGaussian
from pyro_lfm.distributions.normal import Normal
from pyro_lfm.distributions.support_bounds import SupportBounds

# Draws; points on each side of their range; the most entries that are checked; and draws about which each is varied.
_DRAWS, _POINTS, _ENTRIES, _PLACES = 1000, 2000, 4, 3
# A fault is more mass than this outside the range of the draws: it happens by chance with (1 − 0.025)^1000 = 1e-11.
_MISSED = 0.025
# In widths of the range of the draws: how far outside the density is looked at, and how near it must not be zero.
_FAR, _NEAR = 30.0, 0.25
# Beyond this, densities underflow in single precision whatever they are.
_LARGEST = 1e12
# For wide events fewer entries are checked, so that at most so many numbers are evaluated for each point.
_NUMBERS = 2048
# Distributions of torch and Pyro whose support is the one that they declare. Others, such as VonMises, are checked.
_NAMES = """
    Bernoulli Beta Binomial Categorical Cauchy Exponential Gamma Gumbel HalfCauchy HalfNormal InverseGamma Kumaraswamy
    Laplace LogNormal LowRankMultivariateNormal MultivariateNormal NegativeBinomial Normal Pareto Poisson StudentT
    Uniform Weibull
""".split()
# The library's own, which its tests have checked.
OWN = (
    Beta, Binomial, CorrelatedGaussian, Gamma, HalfCauchy, Kumaraswamy, LogNormal, LowRankGaussian, NegativeBinomial, Normal,
    Poisson, StudentT,
)  # fmt: skip
_TRUSTED = frozenset(
    [*OWN, *(getattr(module, name) for module in (torch.distributions, dist) for name in _NAMES)]
)


def support_fault(distribution: Distribution) -> str | None:
    """Says in words if a distribution declares a wider support than it draws on; None if it does not.

    Its draws lie in a range. Within the declared support but outside this range the density is not negligible (as of
    ``dist.VonMises``, which is periodic), or it is no number, or it falls to zero abruptly. The check draws from torch's
    current random stream.

    >>> support_fault(dist.Normal(0.0, 1.0)) is None, support_fault(dist.VonMises(0.0, 4.0))[:46]
    (True, 'it declares all numbers for its support, but i')
    """
    # A subclass of a trusted distribution may declare another support.
    return None if type(without_independent(distribution)) in _TRUSTED else fault_of_draws(distribution)


def fault_of_draws(distribution: Distribution) -> str | None:
    """The same for any distribution, those too that are known to be sound.

    >>> fault_of_draws(dist.Normal(0.0, 1.0)) is None
    True
    """
    bounds = SupportBounds.of(distribution.support)
    if bounds is None or getattr(distribution, "has_rsample", None) is None:
        return None
    batch, event = torch.Size(distribution.batch_shape), torch.Size(distribution.event_shape)
    with torch.no_grad():
        draws = distribution.sample(torch.Size((_DRAWS,)))
    if draws.dim() != 1 + len(batch) + len(event):
        return None
    draws = draws.reshape(_DRAWS, batch.numel(), event.numel())
    width = draws.shape[-1]
    entries = max(1, min(_ENTRIES, _NUMBERS // width))
    for entry in range(0, width, -(-width // entries)):
        check = _EntryCheck.of(distribution, bounds, draws, entry)
        fault = None if check is None else check.fault()
        if fault is not None:
            return fault
    return None


@dataclass(frozen=True)
class _EntryCheck:
    """The check of one entry, in the first row of the batch.

    Attributes:
        draws: (1000, B, K). low, high: the range of the entry's draws.
        inside: values of the entry in this range. outside: values in the declared support below and above it.
    """

    distribution: Distribution
    bounds: SupportBounds
    draws: Tensor
    entry: int
    low: Tensor
    high: Tensor
    inside: Tensor
    outside: tuple[Tensor, Tensor]

    @classmethod
    def of(
        cls, distribution: Distribution, bounds: SupportBounds, draws: Tensor, entry: int
    ) -> _EntryCheck | None:
        """None where there is nothing to check: the draws are equal or very large, or reach the ends of the support."""
        inside = draws[:, 0, entry].double().sort().values
        low, high = inside[0], inside[-1]
        span = high - low
        if not bool((span > 0) & (span < _LARGEST) & (inside.abs().max() < _LARGEST)):
            return None
        dtype, device = inside.dtype, inside.device
        if bounds.discrete:
            steps = torch.arange(1, 201, dtype=dtype, device=device)
            last = min(int(high), int(low) + _POINTS)
            inside = torch.arange(int(low), last + 1, dtype=dtype, device=device)
        else:
            far = torch.tensor(_FAR).log10().item()
            steps = span * torch.logspace(-2, far, _POINTS, dtype=dtype, device=device)
        least, most = (
            bound.flatten()[entry if bound.numel() == draws.shape[-1] else 0].to(inside.device)
            for bound in (bounds.low, bounds.high)
        )
        below, above = (
            points[(points >= least) & (points <= most)] for points in ((low - steps).flip(0), high + steps)
        )
        if not len(below) and not len(above):
            return None
        return cls(distribution, bounds, draws, entry, low, high, inside, (below, above))

    def fault(self) -> str | None:
        """The fault of the entry in words, or None."""
        shares = []
        for place in range(_PLACES):
            masses: list[Tensor] = []
            top: Tensor | None = None
            for points in filter(len, (self.inside, *self.outside)):
                log_p = self._log_density(place, points)
                if log_p is None:
                    return self._words("log_prob refuses values beyond them")
                if points is not self.inside and self._ends_abruptly(points, log_p):
                    return self._words("it has no density beyond them")
                log_p = log_p.double().nan_to_num(nan=-torch.inf)
                top = log_p.max() if top is None else top
                masses.append(_mass(points, (log_p - top).exp(), self.bounds.discrete))
            shares.append(float(sum(masses[1:]) / sum(masses)))
        if min(shares) > _MISSED:
            return self._words(
                f"its density goes on beyond them, with {100 * min(shares):.0f}% of the mass there"
            )
        return None

    def _log_density(self, place: int, points: Tensor) -> Tensor | None:
        """log p of one draw with other values of the entry; None if the distribution refuses them."""
        values = self.draws[place].expand(len(points), *self.draws.shape[1:]).clone()
        values[:, 0, self.entry] = points.to(values.dtype)
        shape = self.distribution.batch_shape + self.distribution.event_shape
        try:
            with torch.no_grad():
                log_prob = self.distribution.log_prob(values.reshape(len(points), *shape))
        except ValueError:
            return None
        return log_prob.reshape(len(points), -1)[:, 0]

    def _ends_abruptly(self, points: Tensor, log_p: Tensor) -> bool:
        """Whether a density has no mass at all next to the range of the draws."""
        margin = _NEAR * (self.high - self.low)
        near = (points - self.high <= margin) & (self.low - points <= margin)
        return not self.bounds.discrete and bool(near.any()) and bool((log_p[near] == -torch.inf).all())

    def _words(self, fault: str) -> str:
        return (
            f"it declares {self.bounds.words()} for its support, but its draws lie between {float(self.low):.4g} and "
            f"{float(self.high):.4g}, and {fault}: declare the support that it has, as in "
            "support = constraints.interval(low, high)"
        )


def _mass(points: Tensor, density: Tensor, discrete: bool) -> Tensor:
    if discrete:
        return density.sum()
    return torch.trapezoid(density, points) if len(points) > 1 else density.new_zeros(())
