"""KL(q ‖ p) in closed form: pairs of Gaussians with any covariances, and the pairs that torch or the library knows.

Objectives use ``kl_closed_form``; other modules use ``gaussian_moments`` to recognise Gaussians.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pyro.distributions import Delta
from torch.distributions import (
    Distribution,
    Gamma,
    LogNormal,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    Transform,
    Wishart,
    kl_divergence,
)
from torch.distributions.transforms import (
    AffineTransform,
    ComposeTransform,
    ExpTransform,
    IndependentTransform,
)

from pyro_lfm.distributions.interface import without_independent
from pyro_lfm.distributions.kl_families import kl_of_family
from pyro_lfm.distributions.low_rank import LowRankGaussian
from pyro_lfm.distributions.partially_observed import PartiallyObserved
from pyro_lfm.distributions.pushforward import Pushforward, same_map
from pyro_lfm.distributions.stirling import deviance, stirling_error, wide


@dataclass(frozen=True)
class Moments:
    """A Gaussian over flat vectors: its mean (..., D), and standard deviations (..., D) or the correlated distribution."""

    loc: torch.Tensor
    scale: torch.Tensor | None = None
    correlated: MultivariateNormal | LowRankMultivariateNormal | None = None

    @property
    def variance(self) -> torch.Tensor:
        """The variance of each entry, (..., D)."""
        return self.spread.square()

    @property
    def spread(self) -> torch.Tensor:
        """The standard deviation of each entry, (..., D)."""
        if self.scale is not None:
            return self.scale
        if isinstance(self.correlated, LowRankGaussian):
            return self.correlated.spread
        return torch.linalg.vector_norm(wide(self.scale_tril), dim=-1).to(self.loc.dtype)

    @property
    def tril(self) -> torch.Tensor | None:
        """L, (..., D, D), with L Lᵀ the covariance; None of independent entries."""
        return None if self.correlated is None else self.correlated.scale_tril

    @property
    def scale_tril(self) -> torch.Tensor:
        """L, (..., D, D), of independent entries too."""
        if self.correlated is not None:
            return self.correlated.scale_tril
        assert self.scale is not None  # for the type checker: one of the two is given
        return torch.diag_embed(self.scale)

    @property
    def log_det(self) -> torch.Tensor:
        """ln |Σ|, (...)."""
        if isinstance(self.correlated, LowRankGaussian):
            return self.correlated.log_det
        scale = self.scale if self.scale is not None else self.scale_tril.diagonal(dim1=-2, dim2=-1)
        return 2 * scale.log().sum(-1)


def gaussian_moments(distribution: Distribution) -> Moments | None:
    """The moments of a Gaussian over events of any shape, flattened; None for any other distribution."""
    if isinstance(distribution, Pushforward) and distribution.is_reshape:
        return gaussian_moments(distribution.base_dist)
    if isinstance(distribution, MultivariateNormal | LowRankMultivariateNormal):
        return Moments(distribution.loc, correlated=distribution)
    normal = without_independent(distribution)
    return _flat_moments(normal, len(distribution.event_shape)) if isinstance(normal, Normal) else None


def _flat_moments(distribution: Normal | LogNormal, events: int) -> Moments:
    if events == 1:
        return Moments(distribution.loc, distribution.scale)
    start = distribution.loc.dim() - events
    return Moments(
        distribution.loc.reshape(*distribution.loc.shape[:start], -1),
        distribution.scale.reshape(*distribution.scale.shape[:start], -1),
    )


def _log_moments(distribution: Distribution) -> Moments | None:
    """The moments of ln x, for a distribution of x whose logarithm is Gaussian."""
    if isinstance(distribution, Pushforward):
        is_exp = len(distribution.transforms) == 1 and _is_exp(distribution.transforms[0])
        return gaussian_moments(distribution.base_dist) if is_exp else None
    base = without_independent(distribution)
    return _flat_moments(base, len(distribution.event_shape)) if isinstance(base, LogNormal) else None


def kl_closed_form(q: Distribution, p: Distribution) -> torch.Tensor | None:
    """KL(q ‖ p) in nats, one number per batch element; None where no closed form is known.

    - Gaussians: ½ [ tr(Σp⁻¹ Σq) + (μp − μq)ᵀ Σp⁻¹ (μp − μq) − D + ln |Σp| − ln |Σq| ].
    - The exponential of a Gaussian N(μ, s²) against Gamma(a, b), entry by entry:
      ln Γ(a) − a ln b − aμ + b exp(μ + s²/2) − ½ ln(2πe s²).
    - Two distributions under the same map: the KL of their base distributions.
    - An observed value of a ``PartiallyObserved`` q: −log p(value), its term in the bound on log p(x, value).

    Args:
        q, p: distributions over the same event; their batch shapes broadcast.

    >>> q = torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))
    >>> p = torch.distributions.Independent(Normal(torch.ones(2), torch.ones(2)), 1)
    >>> float(kl_closed_form(q, p))
    1.0
    """
    if isinstance(q, PartiallyObserved):
        kl = kl_closed_form(q.distribution, p)
        return None if kl is None else torch.where(q.known, -p.log_prob(q.value), kl)
    if isinstance(q, Delta):
        return None  # the formula that Pyro registers leaves out log_density
    for moments in (gaussian_moments, _log_moments):
        gaussian_q, gaussian_p = moments(q), moments(p)
        if gaussian_q is not None and gaussian_p is not None:
            return _kl_gaussian(gaussian_q, gaussian_p)
    if isinstance(q, Pushforward) and isinstance(p, Pushforward) and same_map(q.transforms, p.transforms):
        return kl_closed_form(q.base_dist, p.base_dist)
    for formula in (_kl_log_normal, _kl_wishart, kl_of_family):
        kl = formula(q, p)
        if kl is not None:
            return kl
    batch = torch.broadcast_shapes(q.batch_shape, p.batch_shape)
    try:
        # Some of torch's formulas do not broadcast.
        return kl_divergence(q.expand(batch), p.expand(batch))
    except NotImplementedError:
        return None


def _kl_gaussian(q: Moments, p: Moments) -> torch.Tensor:
    gap = p.loc - q.loc
    if p.scale is not None:
        # Squares of ratios, as those of the scales themselves need twice the range.
        spread = ((q.spread / p.scale).square() + (gap / p.scale).square()).sum(-1)
    else:
        # tr(Σp⁻¹ Σq) and the quadratic form from one triangular solve of [Lq, gap].
        tril_q, tril_p = q.scale_tril, p.scale_tril
        batch = torch.broadcast_shapes(tril_q.shape[:-2], gap.shape[:-1], tril_p.shape[:-2])
        right = torch.cat([_expand(tril_q, batch), _expand(gap.unsqueeze(-1), batch)], -1)
        solved = torch.linalg.solve_triangular(_expand(tril_p, batch), right, upper=False)
        spread = solved.square().sum((-2, -1))
    return 0.5 * (spread - gap.shape[-1] + p.log_det - q.log_det)


def _expand(matrix: torch.Tensor, batch: torch.Size) -> torch.Tensor:
    return matrix.expand(*batch, *matrix.shape[-2:])


def _kl_log_normal(q: Distribution, p: Distribution) -> torch.Tensor | None:
    """KL(exp of a Gaussian ‖ Gamma), summed over the event; None for other distributions."""
    if not isinstance(q, Pushforward) or len(q.transforms) != 1 or q.event_shape != p.event_shape:
        return None
    normal, gamma = without_independent(q.base_dist), without_independent(p)
    if not (_is_exp(q.transforms[0]) and isinstance(normal, Normal) and isinstance(gamma, Gamma)):
        return None
    mu, variance, a, b = normal.loc, normal.scale.square(), gamma.concentration, gamma.rate
    log_ratio = mu + variance / 2 + b.log() - a.log()  # ln(b E[z] / a)
    spread = a * variance
    kl = deviance(a, a * torch.expm1(log_ratio), log_ratio) + stirling_error(a)
    kl = kl + 0.5 * (spread - 1 - spread.log())
    return kl.sum(list(range(-len(q.event_shape), 0))) if q.event_shape else kl


def _kl_wishart(q: Distribution, p: Distribution) -> torch.Tensor | None:
    """KL of Wisharts W(ν, V), summed over an event of several matrices; torch's own does not broadcast.

    ½ [ν₀ ln(|V₀| / |V|) + ν tr(V₀⁻¹ V) − ν D + (ν − ν₀) Σᵢ ψ((ν − i) / 2)] + ln Γ_D(ν₀ / 2) − ln Γ_D(ν / 2), i < D.
    """
    if q.event_shape != p.event_shape:
        return None
    events = len(q.event_shape) - 2
    q, p = without_independent(q), without_independent(p)
    if not (isinstance(q, Wishart) and isinstance(p, Wishart)):
        return None
    dim, nu, nu_p = q.event_shape[-1], q.df, p.df
    tril_q, tril_p = torch.broadcast_tensors(q.scale_tril, p.scale_tril)
    spread = torch.linalg.solve_triangular(tril_p, tril_q, upper=False).square().sum((-2, -1))
    log_det = 2 * (tril_p.diagonal(dim1=-2, dim2=-1).log() - tril_q.diagonal(dim1=-2, dim2=-1).log()).sum(-1)
    halves = (nu.unsqueeze(-1) - torch.arange(dim, dtype=nu.dtype, device=nu.device)) / 2
    kl = 0.5 * (nu_p * log_det + nu * (spread - dim) + (nu - nu_p) * halves.digamma().sum(-1))
    kl = kl + torch.special.multigammaln(nu_p / 2, dim) - torch.special.multigammaln(nu / 2, dim)
    return kl.sum(list(range(-events, 0))) if events else kl


def _is_exp(transform: Transform) -> bool:
    """Whether a transform is exp, entry by entry. torch may compose exp with an affine map that is the identity."""
    while isinstance(transform, IndependentTransform):
        transform = transform.base_transform
    first, *rest = transform.parts if isinstance(transform, ComposeTransform) else [transform]
    return isinstance(first, ExpTransform) and all(
        isinstance(part, AffineTransform) and part.loc == 0 and part.scale == 1 for part in rest
    )
