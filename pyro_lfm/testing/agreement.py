"""Whether a distribution's log_prob is that of its draws: what a distribution of one's own may get wrong in silence."""

from __future__ import annotations

from math import log, pi
from typing import Any

import torch
from pyro.distributions import Delta

from pyro_lfm.distributions.support_check import support_fault
from pyro_lfm.distributions.supports import entrywise, from_reals

_DRAWS = 8000
_LIMIT = 6.0  # standard errors: false alarms below 1e-8 for each number compared
_WIDEST = 12  # entries beyond which the importance weights of the normalisation vary too much to say anything


def distribution_faults(distribution: Any) -> list[str]:
    """What is wrong with a distribution, in words; nothing where it is sound. Draws from torch's current random stream.

    Checked are the support of draws, the shape of log_prob, and that log_prob and draws belong together:

    - discrete distributions: the frequency of each common value against exp(log_prob);
    - continuous distributions, carried to the reals by ``biject_to``: Stein's identity E[f(y) s(y) + ∇f(y)] = 0 for the
      score s = ∇ log p and f = 1, y and tanh y, which a wrong location, scale, correlation or shape breaks; and
      ∫ p = 1 by importance sampling from smoothed draws, which a missing constant breaks.

    Args:
        distribution: a distribution of any batch and event shape, looked at one batch element at a time.

    >>> import pyro.distributions as dist
    >>> distribution_faults(dist.Laplace(torch.zeros(3), 2.0).to_event(1))
    []
    """
    with torch.no_grad():
        draws = distribution.sample(torch.Size((_DRAWS,)))
        log_prob = distribution.log_prob(draws)
    support: Any = distribution.support
    if not bool(torch.as_tensor(support.check(draws)).all()):
        return [f"draws lie outside its own support, {support}"]
    if log_prob.shape != (_DRAWS, *distribution.batch_shape):
        return [
            f"log_prob must have shape {tuple(distribution.batch_shape)}; got {tuple(log_prob.shape[1:])}"
        ]
    if not bool(log_prob.isfinite().all()):
        return ["log_prob of its own draws is not finite"]
    if isinstance(distribution, Delta):
        return []  # a point, or a function of other draws, whose log_density is none of its own
    if (fault := support_fault(distribution)) is not None:
        return [fault]
    if support.is_discrete:
        return _frequency_faults(draws, log_prob, len(distribution.event_shape))
    carry = from_reals(support)
    # Matrices have conventions of their own for what their density is taken by: no more can be said of them.
    if carry is None or entrywise(support).event_dim > 1:
        return []
    return _density_faults(distribution, draws, carry)


def _frequency_faults(draws: torch.Tensor, log_prob: torch.Tensor, events: int) -> list[str]:
    values = draws.reshape(_DRAWS, -1, draws.shape[draws.dim() - events :].numel())
    for k, column in enumerate(log_prob.reshape(_DRAWS, -1).unbind(-1)):
        _, inverse, counts = values[:, k].unique(dim=0, return_inverse=True, return_counts=True)
        probability = column.new_zeros(len(counts)).scatter(0, inverse, column.exp())
        expected = _DRAWS * probability
        error = (expected * (1 - probability)).clamp_min(1.0).sqrt()
        common = (counts > 20) | (expected > 20)
        if bool((((counts - expected).abs() / error)[common] > _LIMIT).any()):
            return ["draws and log_prob disagree: values are drawn more or less often than log_prob says"]
    return []


def _density_faults(distribution: Any, draws: torch.Tensor, to_reals: Any) -> list[str]:
    with torch.no_grad():
        free = to_reals.inv(draws)
    if not bool(free.isfinite().all()):
        return []  # some draws lie on the edge of the support in floating point: they cannot be carried back
    batch = len(distribution.batch_shape)
    shape = free.shape[1 + batch :]

    def log_density(y: torch.Tensor) -> torch.Tensor:
        """Of points (draws, batch elements, D) on the reals."""
        y = y.reshape(len(y), *distribution.batch_shape, *shape)
        x = to_reals(y)
        jacobian = to_reals.log_abs_det_jacobian(y, x)
        extra = jacobian.dim() - 1 - batch
        jacobian = jacobian.sum(tuple(range(-extra, 0))) if extra else jacobian
        return (distribution.log_prob(x) + jacobian).reshape(len(y), -1)

    def survives(y: torch.Tensor) -> bool:
        """Whether points on the reals can be carried to the support and back in floating point."""
        return bool(
            to_reals.inv(to_reals(y.reshape(len(y), *distribution.batch_shape, *shape))).isfinite().all()
        )

    free = free.reshape(_DRAWS, distribution.batch_shape.numel(), -1).double()
    kind = draws.dtype
    faults = _stein_faults(free, lambda y: log_density(y.to(kind)))
    if free.shape[-1] <= _WIDEST:
        faults += _normalisation_faults(
            free, lambda y: log_density(y.to(kind)).double(), lambda y: survives(y.to(kind))
        )
    return faults[:1]


def _stein_faults(free: torch.Tensor, log_density: Any) -> list[str]:
    free = free.requires_grad_(True)
    (score,) = torch.autograd.grad(log_density(free).sum(), free)
    free = free.detach()
    # Draws next to the edge of a support cannot be carried back exactly in floating point.
    sound = score.isfinite().all(-1)
    for k in range(free.shape[1]):
        y, s = free[sound[:, k], k], score[sound[:, k], k]
        y = y - y.median(0).values
        bent = torch.tanh(y / y.abs().median(0).values.clamp_min(1e-6))
        slope = (1 - bent.square()) / y.abs().median(0).values.clamp_min(1e-6)
        identities = {
            "location": _z_scores(s.sum(0), s.square().sum(0), len(s)),
            # Sums over draws of every product y_i s_j, without an array of all of them.
            "scale or correlation": _z_scores(
                y.T @ s + len(s) * torch.eye(s.shape[1], dtype=s.dtype, device=s.device),
                y.square().T @ s.square(),
                len(s),
            ),
            "shape": _z_scores((bent * s + slope).sum(0), (bent * s + slope).square().sum(0), len(s)),
        }
        for what, z in identities.items():
            if bool((z > _LIMIT).any()):
                return [
                    f"draws and log_prob disagree (in {what}): the one is not from the distribution of the other"
                ]
    return []


def _z_scores(total: torch.Tensor, squares: torch.Tensor, count: int) -> torch.Tensor:
    """|mean| over its standard error, of terms given by their sums and sums of squares."""
    return (total / count).abs() / ((squares / count).sqrt() / count**0.5 + 1e-4)


def _normalisation_faults(free: torch.Tensor, log_density: Any, survives: Any) -> list[str]:
    """∫ p = E_q[p / q] with q the draws smoothed by a Gaussian of their own spread: q has the modes and tails of p."""
    centres, rest = free.detach()[: _DRAWS // 4], free.detach()[_DRAWS // 4 :]
    low, high = rest.quantile(0.16, 0), rest.quantile(0.84, 0)
    width = ((high - low) / 2).clamp_min(1e-6)
    pick = torch.randint(len(centres), (len(rest),), device=free.device)
    points = centres[pick] + width * torch.randn_like(rest)
    if not survives(points):
        return []
    log_p = log_density(points)
    for k in range(free.shape[1]):
        apart = torch.cdist(points[:, k] / width[k], centres[:, k] / width[k]).square()
        constant = width[k].log().sum() + 0.5 * free.shape[-1] * log(2 * pi) + log(len(centres))
        weights = (log_p[:, k] - (-0.5 * apart).logsumexp(1) + constant).exp()
        error = weights.std() / len(weights) ** 0.5 + 1e-3
        if bool((weights.mean() - 1).abs() > _LIMIT * error):
            return [
                f"exp(log_prob) integrates to about {float(weights.mean()):.3g}, not 1: a constant is missing from it"
            ]
    return []
