"""How heavy the tail of importance weights is, and weights whose tail is smoothed by that of a Pareto distribution."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pyro_lfm.errors import DataError, ShapeError

# Fewer weights are no tail to fit.
_LEAST = 5
# Largest log weights that all lie this close to each other, in nats, differ by rounding: there is no tail.
_FLAT = 1e-3


def tail_size(draws: int) -> int:
    """M = ⌈min(S/5, 3√S)⌉, how many of S weights are the tail.

    >>> tail_size(100), tail_size(10_000)
    (20, 300)
    """
    return math.ceil(min(draws / 5, 3 * draws**0.5))


def threshold(draws: int) -> float:
    """min(1 − 1/log₁₀ S, 0.7): up to this k̂ the mean of S weights can be relied on.

    >>> round(threshold(100), 3), threshold(10_000)
    (0.5, 0.7)
    """
    return min(1 - 1 / math.log10(draws), 0.7)


def pareto_k(log_weights: Any) -> Tensor:
    """k̂, the shape of the generalized Pareto distribution of the largest M = ⌈min(S/5, 3√S)⌉ of S importance weights.

    p(w | u, σ, k) = 1/σ (1 + k (w − u)/σ)^(−1/k−1) for w > u, the largest weight that is not among the M. Such weights
    have moments of order below 1/k: for k ≥ 0.5 their variance is infinite, for k ≥ 1 their mean. k̂ is the estimate of
    Zhang and Stephens, drawn to 0.5 by a prior worth ten weights.

    Args:
        log_weights: log w, (S,) or (S, N), each column for itself; constants added to a column change nothing.

    Returns:
        k̂, () or (N,), float64. −∞ where the largest M weights are the same but for 0.1 %, as those of an exact
        posterior are; ∞ where less than five weights are left for the tail, of few draws or with many ties.

    Raises:
        ShapeError: another shape. DataError: a weight that is NaN or infinite.

    Source: Zhang and Stephens (2009); Vehtari, Simpson, Gelman, Yao and Gabry (2024), "Pareto smoothed importance
    sampling", for the tail and the prior.

    >>> uniform = torch.linspace(0.0005, 0.9995, 1000, dtype=torch.float64)
    >>> pareto_k(-0.3 * uniform.log())  # w = u^(−0.3)
    tensor(0.3236, dtype=torch.float64)
    """
    columns, shape = _columns(log_weights)
    return k_of_largest(columns.topk(min(tail_size(len(columns)) + 1, len(columns)), 0).values).reshape(shape)


def smoothed(log_weights: Any) -> Tensor:
    """Pareto smoothed importance weights: log w, the M largest of which are expected order statistics of the tail.

    The j-th of the M tail weights becomes the quantile (j − 1/2)/M of the fitted generalized Pareto distribution, none above the
    largest w. Their mean estimates with less variance and a little bias what the mean of w does. Where there is no tail
    to fit (see ``pareto_k``) they stay as they are.

    Args:
        log_weights: log w, (S,) or (S, N), each column for itself.

    Returns:
        In the same order and shape, float64, not normalised.

    Raises:
        ShapeError, DataError: as ``pareto_k``.

    Source: Vehtari, Simpson, Gelman, Yao and Gabry (2024).

    >>> _ = torch.manual_seed(0)
    >>> heavy = torch.distributions.Exponential(1 / 0.6).sample((1000,))  # log w of k = 0.6
    >>> found = smoothed(heavy)
    >>> bool(found.max() <= heavy.max()), int((found != heavy).sum()) <= 95
    (True, True)
    """
    columns, shape = _columns(log_weights)
    columns = columns.clone()
    top = columns.topk(min(tail_size(len(columns)) + 1, len(columns)), 0)
    largest, cutoff, sizes = _tails(top.values)
    for size in sizes.unique().tolist():
        rows = (sizes == size).nonzero().squeeze(1)
        if size < _LEAST:
            continue
        u = cutoff[rows].exp()
        k, scale = _fit((top.values[:size, rows] - largest[rows]).exp() - u)
        # Of the largest weight first.
        quantile = -torch.log1p(-torch.arange(size - 0.5, 0.0, -1.0).to(columns) / size).unsqueeze(-1)
        excess = scale * torch.where(k.abs() < 1e-15, quantile, torch.expm1(k * quantile) / k)
        tail = (excess + u).log().clamp_max(0.0) + largest[rows]
        columns[top.indices[:size, rows], rows.expand(size, -1)] = tail
    return columns.reshape(*columns.shape[:1], *shape)


def k_of_largest(top: Tensor) -> Tensor:
    """k̂ (N,) from the M + 1 largest log weights of each column, (M + 1, N), the largest first."""
    largest, cutoff, sizes = _tails(top)
    found = torch.full_like(largest, torch.inf)
    for size in sizes.unique().tolist():
        rows = sizes == size
        if size >= _LEAST:
            excess = (top[:size, rows] - largest[rows]).exp() - cutoff[rows].exp()
            found[rows] = _fit(excess)[0]
        elif size < 0:
            found[rows] = -torch.inf
    return found


def _columns(log_weights: Any) -> tuple[Tensor, torch.Size]:
    """(S, N) in float64, and the shape of what is found for each column."""
    try:
        given = torch.as_tensor(log_weights).detach()
    except (TypeError, ValueError, RuntimeError):
        raise ShapeError(
            f"log_weights must be a tensor or an array of numbers, (S,) or (S, N); got a {type(log_weights).__name__} that "
            "is none"
        ) from None
    if given.is_complex():
        raise DataError(f"log_weights must be real; got {given.dtype}")
    if given.dim() not in (1, 2) or len(given) < 2:
        raise ShapeError(
            f"log_weights must have shape (S,) or (S, N) with S ≥ 2 draws; got {tuple(given.shape)}"
        )
    given = given.double()
    if bool((given.isnan() | (given == torch.inf)).any()):
        raise DataError("log_weights must be finite, or −inf for a weight of zero; got NaN or inf")
    return given.reshape(len(given), -1), given.shape[1:]


def _tails(top: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each column the largest log weight, the cutoff below it, and how many weights exceed it; −1 if all are alike."""
    largest = top[0]
    cutoff = (top[-1] - largest).clamp_min(math.log(torch.finfo(torch.float64).tiny))
    sizes = (top - largest > cutoff).sum(0)
    return largest, cutoff, sizes.where(~(cutoff > -_FLAT), -1)


def _fit(excess: Tensor) -> tuple[Tensor, Tensor]:
    """Shape k and scale σ, each (N,), of the generalized Pareto distribution of excesses (n, N), the largest first.

    The likelihood of θ = −k/σ, profiled over k, is averaged over a grid that the data place; k = 1/n Σ ln(1 − θ x).
    """
    n = len(excess)
    points = 30 + int(n**0.5)
    grid = 1 - (points / (torch.arange(points).to(excess) + 0.5)).sqrt()
    quartile = excess[n - int(n / 4 + 0.5)]
    theta = grid.unsqueeze(-1) / (3 * quartile) + 1 / excess[0]
    # One point after the other, so that memory does not grow with the grid.
    k = torch.stack([torch.log1p(-point * excess).mean(0) for point in theta])
    profile = n * ((-theta / k).log() - k - 1)
    weights = profile.nan_to_num(nan=-torch.inf).softmax(0)
    best = (weights * theta).sum(0)
    shape = torch.log1p(-best * excess).mean(0)
    # The prior: ten more weights of k = 0.5.
    return (n * shape + 10 * 0.5) / (n + 10), -shape / best
