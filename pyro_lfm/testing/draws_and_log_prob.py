"""Checks that the draws of a distribution match its log_prob, for the checks of priors, factors and guides."""

from __future__ import annotations

from collections.abc import Callable
from math import log, pi
from typing import cast

import torch
from pyro.distributions import Delta
from torch import Tensor
from torch.distributions import Distribution, Transform
from torch.distributions.constraints import Constraint

from pyro_lfm.distributions.support_check import support_fault
from pyro_lfm.distributions.supports import entrywise, from_reals

_DRAWS = 8000
_LIMIT = 6.0  # standard errors: false alarms below 1e-8 for each number compared
_WIDEST = 12  # entries beyond which importance weights vary too much to tell whether log_prob is normalised


def distribution_faults(distribution: Distribution) -> list[str]:
    """The faults of a distribution in words; an empty list if it is sound. It draws from torch's random stream.

    It checks the support of draws, the shape of log_prob, and that draws match log_prob:

    - discrete distributions: the frequency of each common value against exp(log_prob).
    - continuous distributions, transformed to the reals by ``biject_to``: Stein's identity E[f(y) s(y) + ∇f(y)] = 0 with
      the score s = ∇ log p and f = 1, y and tanh y. It fails if location, scale, correlation or shape are wrong. And
      ∫ p = 1, by importance sampling from smoothed draws. It fails if a constant is missing.

    Args:
        distribution: of any batch and event shape; each batch element is checked by itself.

    >>> import pyro.distributions as dist
    >>> distribution_faults(dist.Laplace(torch.zeros(3), 2.0).to_event(1))
    []
    """
    with torch.no_grad():
        draws = distribution.sample(torch.Size((_DRAWS,)))
        log_prob = distribution.log_prob(draws)
    support = cast(Constraint, distribution.support)
    if not bool(torch.as_tensor(support.check(draws)).all()):
        return [f"draws lie outside its own support, {support}"]
    if log_prob.shape != (_DRAWS, *distribution.batch_shape):
        return [
            f"log_prob must have shape {tuple(distribution.batch_shape)}; got {tuple(log_prob.shape[1:])}"
        ]
    if not bool(log_prob.isfinite().all()):
        return ["log_prob of its own draws is not finite"]
    if isinstance(distribution, Delta):
        return []  # a point, or a function of other draws: its log_density belongs to these
    if (fault := support_fault(distribution)) is not None:
        return [fault]
    if support.is_discrete:
        return _frequency_faults(draws, log_prob, len(distribution.event_shape))
    from_free = from_reals(support)
    # The base measure of a density of matrices is a matter of convention, so that these are not checked.
    if from_free is None or entrywise(support).event_dim > 1:
        return []
    return _density_faults(distribution, draws, from_free)


def _frequency_faults(draws: Tensor, log_prob: Tensor, events: int) -> list[str]:
    values = draws.reshape(_DRAWS, -1, draws.shape[draws.dim() - events :].numel())
    for k, column in enumerate(log_prob.reshape(_DRAWS, -1).unbind(-1)):
        _, inverse, counts = values[:, k].unique(dim=0, return_inverse=True, return_counts=True)
        probability = column.new_zeros(len(counts)).scatter(0, inverse, column.exp())
        expected = _DRAWS * probability
        error = (expected * (1 - probability)).clamp_min(1.0).sqrt()
        common = (counts > 20) | (expected > 20)
        if bool((((counts - expected).abs() / error)[common] > _LIMIT).any()):
            return [
                "samples do not match log_prob: some values are drawn more or less often than exp(log_prob)"
            ]
    return []


def _density_faults(distribution: Distribution, draws: Tensor, from_free: Transform) -> list[str]:
    with torch.no_grad():
        free = from_free.inv(draws)
    if not bool(free.isfinite().all()):
        return []  # some draws lie on the edge of the support in floating point, and have no inverse
    batch = len(distribution.batch_shape)
    shape = free.shape[1 + batch :]

    def log_density(y: Tensor) -> Tensor:
        """log p of points (draws, batch elements, D) on the reals."""
        y = y.reshape(len(y), *distribution.batch_shape, *shape)
        x = from_free(y)
        jacobian = from_free.log_abs_det_jacobian(y, x)
        extra = jacobian.dim() - 1 - batch
        jacobian = jacobian.sum(tuple(range(-extra, 0))) if extra else jacobian
        return (distribution.log_prob(x) + jacobian).reshape(len(y), -1)

    def survives(y: Tensor) -> bool:
        """Whether points on the reals can be transformed to the support and back in floating point."""
        return bool(
            from_free.inv(from_free(y.reshape(len(y), *distribution.batch_shape, *shape))).isfinite().all()
        )

    free = free.reshape(_DRAWS, distribution.batch_shape.numel(), -1).double()
    dtype = draws.dtype
    faults = _stein_faults(free, lambda y: log_density(y.to(dtype)))
    if free.shape[-1] <= _WIDEST:
        faults += _normalisation_faults(
            free, lambda y: log_density(y.to(dtype)).double(), lambda y: survives(y.to(dtype))
        )
    return faults[:1]


def _stein_faults(free: Tensor, log_density: Callable[[Tensor], Tensor]) -> list[str]:
    free = free.requires_grad_(True)
    (score,) = torch.autograd.grad(log_density(free).sum(), free)
    free = free.detach()
    # Draws next to the edge of a support have no exact inverse in floating point.
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
        for difference, z in identities.items():
            if bool((z > _LIMIT).any()):
                return [
                    f"samples do not match log_prob: the {difference} differs; check the formulas of both"
                ]
    return []


def _z_scores(total: Tensor, squares: Tensor, count: int) -> Tensor:
    """|mean| over its standard error, of terms given by their sums and sums of squares."""
    return (total / count).abs() / ((squares / count).sqrt() / count**0.5 + 1e-4)


def _normalisation_faults(
    free: Tensor, log_density: Callable[[Tensor], Tensor], survives: Callable[[Tensor], bool]
) -> list[str]:
    """Checks ∫ p = E_q[p / q] = 1, with q the draws smoothed by a Gaussian of their spread: it has the tails of p."""
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
                f"exp(log_prob) integrates to about {float(weights.mean()):.3g}, not 1: a constant is missing in it"
            ]
    return []
