"""KL(q ‖ p) in closed form: every pair of Gaussians, whatever their covariances, and what torch registers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions import Delta
from torch.distributions import (
    Gamma,
    Independent,
    LogNormal,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    Wishart,
    kl_divergence,
)
from torch.distributions.transforms import (
    AffineTransform,
    ComposeTransform,
    ExpTransform,
    IndependentTransform,
)

from pyro_lfm.distributions.kl_families import kl_of_family
from pyro_lfm.distributions.partly_known import Pinned
from pyro_lfm.distributions.pushforward import Pushforward, alike
from pyro_lfm.distributions.stirling import deviance, stirling_error


@dataclass(frozen=True)
class Moments:
    """A Gaussian over flat vectors: mean (..., D), and either standard deviations (..., D) or L (..., D, D)."""

    loc: torch.Tensor
    scale: torch.Tensor | None = None
    tril: torch.Tensor | None = None


def gaussian_moments(distribution: Any) -> Moments | None:
    """Of a Gaussian over events of any shape, in flat order; None for any other distribution."""
    if isinstance(distribution, Pushforward) and distribution.is_reshape:
        return gaussian_moments(distribution.base_dist)
    if isinstance(distribution, MultivariateNormal | LowRankMultivariateNormal):
        return Moments(distribution.loc, tril=distribution.scale_tril)
    events = len(distribution.event_shape)
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    if not isinstance(distribution, Normal):
        return None
    return _flat(distribution, events)


def _flat(distribution: Any, events: int) -> Moments:
    start = distribution.loc.dim() - events
    return Moments(
        distribution.loc.reshape(*distribution.loc.shape[:start], -1),
        distribution.scale.reshape(*distribution.scale.shape[:start], -1),
    )


def _log_moments(distribution: Any) -> Moments | None:
    """Those of the logarithm, of a distribution whose logarithm is a Gaussian."""
    if isinstance(distribution, Pushforward):
        return (
            gaussian_moments(distribution.base_dist)
            if len(distribution.transforms) == 1 and _is_exp(distribution.transforms[0])
            else None
        )
    events = len(distribution.event_shape)
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return _flat(distribution, events) if isinstance(distribution, LogNormal) else None


def kl_closed_form(q: Any, p: Any) -> torch.Tensor | None:
    """KL(q ‖ p) in nats, one number per batch element; None where no closed form is known.

    For Gaussians: ½ [ tr(Σp⁻¹ Σq) + (μp − μq)ᵀ Σp⁻¹ (μp − μq) − D + ln |Σp| − ln |Σq| ]. For a Gaussian N(μ, s²) carried
    to (0, ∞) by exp, against Gamma(a, b): ln Γ(a) − a ln b − aμ + b exp(μ + s²/2) − ½ ln(2πe s²), entry by entry. For two
    distributions carried by the same map: that of the distributions before it. Of a value that is known (``Pinned``): −log p of
    it, as the bound on log p(x, value) has it.

    Args:
        q, p: distributions over the same event; their batch shapes broadcast.

    >>> q = torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))
    >>> p = Independent(Normal(torch.ones(2), torch.ones(2)), 1)
    >>> float(kl_closed_form(q, p))
    1.0
    """
    if isinstance(q, Pinned):
        found = kl_closed_form(q.distribution, p)
        return None if found is None else torch.where(q.known, -p.log_prob(q.value), found)
    if isinstance(q, Delta):
        return None  # the formula that Pyro registers leaves its log_density out
    for moments in (gaussian_moments, _log_moments):
        gaussian_q, gaussian_p = moments(q), moments(p)
        if gaussian_q is not None and gaussian_p is not None:
            return _kl_gaussian(gaussian_q, gaussian_p)
    if isinstance(q, Pushforward) and isinstance(p, Pushforward) and alike(q.transforms, p.transforms):
        return kl_closed_form(q.base_dist, p.base_dist)
    for known in (_kl_log_normal, _kl_wishart, kl_of_family):
        found = known(q, p)
        if found is not None:
            return found
    batch = torch.broadcast_shapes(q.batch_shape, p.batch_shape)
    try:
        # Some of torch's formulas index their arguments, and so need them of one shape.
        return kl_divergence(q.expand(batch), p.expand(batch))
    except NotImplementedError:
        return None


def _kl_gaussian(q: Moments, p: Moments) -> torch.Tensor:
    gap = p.loc - q.loc
    if p.scale is not None:
        variance_q = q.scale.square() if q.scale is not None else q.tril.square().sum(-1)  # type: ignore[union-attr]
        spread = ((variance_q + gap.square()) / p.scale.square()).sum(-1)
    else:
        # tr(Σp⁻¹ Σq) and the quadratic form from one triangular solve of [Lq, gap].
        root_q = torch.diag_embed(q.scale) if q.scale is not None else q.tril
        batch = torch.broadcast_shapes(root_q.shape[:-2], gap.shape[:-1], p.tril.shape[:-2])  # type: ignore[union-attr]
        right = torch.cat([_expand(root_q, batch), _expand(gap.unsqueeze(-1), batch)], -1)  # type: ignore[arg-type]
        solved = torch.linalg.solve_triangular(_expand(p.tril, batch), right, upper=False)  # type: ignore[arg-type]
        spread = solved.square().sum((-2, -1))
    return 0.5 * (spread - gap.shape[-1] + _log_det(p) - _log_det(q))


def _expand(matrix: torch.Tensor, batch: torch.Size) -> torch.Tensor:
    return matrix.expand(*batch, *matrix.shape[-2:])


def _log_det(distribution: Moments) -> torch.Tensor:
    scales = (
        distribution.scale if distribution.scale is not None else distribution.tril.diagonal(dim1=-2, dim2=-1)
    )  # type: ignore[union-attr]
    return 2 * scales.log().sum(-1)


def _kl_log_normal(q: Any, p: Any) -> torch.Tensor | None:
    """KL(exp of a Gaussian ‖ Gamma), summed over the event; None for other distributions."""
    if not isinstance(q, Pushforward) or len(q.transforms) != 1 or q.event_shape != p.event_shape:
        return None
    normal, gamma = q.base_dist, p
    while isinstance(normal, Independent):
        normal = normal.base_dist
    while isinstance(gamma, Independent):
        gamma = gamma.base_dist
    if not (_is_exp(q.transforms[0]) and isinstance(normal, Normal) and isinstance(gamma, Gamma)):
        return None
    mu, variance, a, b = normal.loc, normal.scale.square(), gamma.concentration, gamma.rate
    log_ratio = mu + variance / 2 + b.log() - a.log()  # of the expected b z to a
    spread = a * variance
    kl = deviance(a, a * torch.expm1(log_ratio), log_ratio) + stirling_error(a)
    kl = kl + 0.5 * (spread - 1 - spread.log())
    return kl.sum(list(range(-len(q.event_shape), 0))) if q.event_shape else kl


def _kl_wishart(q: Any, p: Any) -> torch.Tensor | None:
    """KL of Wisharts W(ν, V), summed over an event of several; torch's own does not broadcast.

    ½ [ν₀ ln(|V₀| / |V|) + ν tr(V₀⁻¹ V) − ν D + (ν − ν₀) Σᵢ ψ((ν − i) / 2)] + ln Γ_D(ν₀ / 2) − ln Γ_D(ν / 2), i < D.
    """
    if q.event_shape != p.event_shape:
        return None
    events = len(q.event_shape) - 2
    while isinstance(q, Independent):
        q = q.base_dist
    while isinstance(p, Independent):
        p = p.base_dist
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


def _is_exp(transform: Any) -> bool:
    """Whether it is exp, entry by entry; torch composes it with an affine map that does nothing."""
    while isinstance(transform, IndependentTransform):
        transform = transform.base_transform
    first, *rest = transform.parts if isinstance(transform, ComposeTransform) else [transform]
    return isinstance(first, ExpTransform) and all(
        isinstance(part, AffineTransform) and part.loc == 0 and part.scale == 1 for part in rest
    )
