"""The continuous Bernoulli, exact at every logit; the family ``lfm.ContinuousBernoulli`` uses it."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from pyro_lfm.distributions.interface import Shape

# Taylor coefficients in a² of ln(sinh(a/2) / (a/2)), of its first derivative over a, and of its second derivative.
# Below a = 1 they give all digits of a double.
_LOG_SINHC = (
    1 / 24,
    -1 / 2880,
    1 / 181440,
    -1 / 9676800,
    1 / 479001600,
    -691 / 15692092416000,
    1 / 1046139494400,
)
_SLOPE = tuple(2 * (k + 1) * c for k, c in enumerate(_LOG_SINHC))
_CURVATURE = tuple((2 * k + 1) * c for k, c in enumerate(_SLOPE))


def _polynomial(coefficients: tuple[float, ...], square: Tensor) -> Tensor:
    total = torch.zeros_like(square)
    for coefficient in reversed(coefficients):
        total = total * square + coefficient
    return total


class ContinuousBernoulli(dist.TorchDistribution):
    """p(x) = l e^(l x) / (e^l − 1) on [0, 1], l = logits. It is uniform at l = 0.

    Everything is computed from a = |l| and y, the distance of x from the end where the density is highest:
    p = a e^(−a y) / (1 − e^(−a)), by series below a = 1.

    Source: Loaiza-Ganem and Cunningham (2019), "The continuous Bernoulli".

    >>> distribution = ContinuousBernoulli(torch.tensor([-30.0, 0.0, 1e6]))
    >>> distribution.log_prob(torch.tensor([0.0, 0.3, 1.0]))
    tensor([ 3.4012,  0.0000, 13.8155])
    """

    arg_constraints = {"logits": constraints.real}
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, logits: Tensor, validate_args: bool | None = False):
        self.logits = logits
        super().__init__(logits.shape, validate_args=validate_args)

    def expand(self, batch_shape: Shape, _instance: ContinuousBernoulli | None = None) -> ContinuousBernoulli:
        return ContinuousBernoulli(self.logits.expand(batch_shape), self._validate_args)

    @property
    def _size(self) -> Tensor:
        # a = |l|. torch's abs has the gradient 0 at 0.
        return torch.where(self.logits > 0, self.logits, -self.logits)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        distance = torch.where(self.logits > 0, 1 - value, value)
        log_prob = -self._size * distance - self._log_mass()
        return log_prob.masked_fill((value < 0) | (value > 1), -torch.inf)

    def _log_mass(self) -> Tensor:
        """ln ∫ e^(−a y) dy = ln((1 − e^(−a)) / a)."""
        a = self._size
        near, far = a.clamp_max(1.0), a.clamp_min(1.0)
        series = near.square() * _polynomial(_LOG_SINHC, near.square()) - near / 2
        return torch.where(a < 1, series, (-torch.expm1(-far)).log() - far.log())

    def log_normaliser(self) -> Tensor:
        """ln ∫ e^(l x) dx. Its derivatives by l are the cumulants."""
        return self.logits.clamp_min(0.0) + self._log_mass()

    @property
    def _distance(self) -> Tensor:
        """E[y]."""
        a = self._size
        near, far = a.clamp_max(1.0), a.clamp_min(1.0)
        series = 0.5 - near * _polynomial(_SLOPE, near.square())
        # e^(−a) / (1 − e^(−a)), which does not overflow.
        return torch.where(a < 1, series, far.reciprocal() + (-far).exp() / torch.expm1(-far))

    @property
    def mean(self) -> Tensor:
        return torch.where(self.logits > 0, 1 - self._distance, self._distance)

    @property
    def variance(self) -> Tensor:
        a = self._size
        near, far = a.clamp_max(1.0), a.clamp_min(1.0)
        series = _polynomial(_CURVATURE, near.square())
        exact = far.square().reciprocal() - (-far).exp() / torch.expm1(-far).square()
        return torch.where(a < 1, series, exact)

    def entropy(self) -> Tensor:
        """In nats: E[a y] + ln ∫ e^(−a y) dy."""
        return self._size * self._distance + self._log_mass()

    def icdf(self, value: Tensor) -> Tensor:
        up = self.logits > 0
        distance = self._distance_of(torch.where(up, 1 - value, value), torch.where(up, value, 1 - value))
        return torch.where(up, 1 - distance, distance)

    def cdf(self, value: Tensor) -> Tensor:
        up, a = self.logits > 0, self._size.clamp_min(torch.finfo(self.logits.dtype).tiny)
        y = torch.where(up, 1 - value, value).clamp(0, 1)
        below = torch.expm1(-a * y) / torch.expm1(-a)
        return torch.where(up, 1 - below, below)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        u = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
        distance = self._distance_of(u, 1 - u)
        return torch.where(self.logits > 0, 1 - distance, distance)

    def _distance_of(self, share: Tensor, rest: Tensor) -> Tensor:
        """The quantile y = −ln(1 − u (1 − e^(−a))) / a: the mass below y is u = ``share``, the mass above is ``rest``."""
        a, u = self._size, share
        far = a.clamp_min(0.05)
        taken = -u * torch.expm1(-far)
        # Near the far end 1 − u (1 − e^(−a)) is a sum of two small numbers.
        left = torch.logaddexp(rest.log(), u.log() - far)
        exact = -torch.where(taken < 0.5, torch.log1p(-taken.clamp_max(0.5)), left) / far
        # Σ_k κ_k (−a)^(k − 1) / k!, κ the cumulants of a Bernoulli of probability u.
        near, w = a.clamp_max(0.05), u * (1 - u)
        cumulants = (
            u,
            w,
            w * (1 - 2 * u),
            w * (1 - 6 * w),
            w * (1 - 2 * u) * (1 - 12 * w),
            w * (1 - 30 * w + 120 * w.square()),
        )
        series, term = torch.zeros_like(near * u), torch.ones_like(near)
        for k, cumulant in enumerate(cumulants, 1):
            series, term = series + cumulant * term, term * -near / (k + 1)
        return torch.where(a < 0.05, series, exact)
