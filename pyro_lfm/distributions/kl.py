"""KL(q ‖ p), in closed form for every pair of Gaussians, whatever their covariance structure."""

from __future__ import annotations

import torch
from torch.distributions import (
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    kl_divergence,
)


def _is_diagonal(law: torch.distributions.Distribution) -> bool:
    return isinstance(law, Independent) and isinstance(law.base_dist, Normal) and len(law.event_shape) == 1


def _tril(law: torch.distributions.Distribution) -> torch.Tensor:
    return torch.diag_embed(law.stddev) if _is_diagonal(law) else law.scale_tril


def _is_gaussian(law: torch.distributions.Distribution) -> bool:
    return _is_diagonal(law) or isinstance(law, MultivariateNormal | LowRankMultivariateNormal)


def kl_closed_form(
    q: torch.distributions.Distribution, p: torch.distributions.Distribution
) -> torch.Tensor | None:
    """KL(q ‖ p) in nats, shape = the broadcast batch shape; None where there is no closed form.

    For Gaussians: ½ [ tr(Σp⁻¹ Σq) + (μp − μq)ᵀ Σp⁻¹ (μp − μq) − D + ln |Σp| − ln |Σq| ].

    >>> q = torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))
    >>> p = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
    >>> float(kl_closed_form(q, p))
    0.0
    """
    if _is_gaussian(q) and _is_gaussian(p) and not (_is_diagonal(q) and _is_diagonal(p)):
        lq = _tril(q)
        if _is_diagonal(p):
            trace = (lq.square().sum(-1) / p.variance).sum(-1)
            quadratic = ((p.mean - q.mean).square() / p.variance).sum(-1)
            log_det_p = 2 * p.stddev.log().sum(-1)
        else:
            lp = _tril(p)
            batch = torch.broadcast_shapes(lp.shape[:-2], lq.shape[:-2])
            lp, lq_wide = lp.expand(*batch, *lp.shape[-2:]), lq.expand(*batch, *lq.shape[-2:])
            trace = torch.linalg.solve_triangular(lp, lq_wide, upper=False).square().sum((-2, -1))
            gap = (p.mean - q.mean).unsqueeze(-1)
            lp = lp.expand(*torch.broadcast_shapes(batch, gap.shape[:-2]), *lp.shape[-2:])
            quadratic = torch.linalg.solve_triangular(lp, gap, upper=False).square().sum((-2, -1))
            log_det_p = 2 * lp.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        log_det_q = 2 * lq.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return 0.5 * (trace + quadratic - q.event_shape[0] + log_det_p - log_det_q)
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return None
