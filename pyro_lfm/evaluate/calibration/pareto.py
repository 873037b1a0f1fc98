"""Importance weights: k̂, the shape of their tail, and weights smoothed by a Pareto distribution fitted to the tail."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_lfm.errors import DataError, ShapeError
from pyro_lfm.evaluate.inputs import Array

# The fewest weights that a Pareto distribution is fitted to.
_LEAST = 5
# Nats. If the largest log weights are closer together than this, they differ by rounding, and there is no tail.
_FLAT = 1e-3


def tail_size(draws: int) -> int:
    """M = ⌈min(S/5, 3√S)⌉, the number of weights in the tail, of S weights.

    >>> tail_size(100), tail_size(10_000)
    (20, 300)
    """
    return math.ceil(min(draws / 5, 3 * draws**0.5))


def threshold(draws: int) -> float:
    """min(1 − 1/log₁₀ S, 0.7): up to this k̂ the mean of S weights is reliable.

    >>> round(threshold(100), 3), threshold(10_000)
    (0.5, 0.7)
    """
    return min(1 - 1 / math.log10(draws), 0.7)


def pareto_k(log_weights: Array) -> Tensor:
    """k̂, the shape of the generalized Pareto distribution of the largest M = ⌈min(S/5, 3√S)⌉ of S importance weights.

    p(w | u, σ, k) = 1/σ (1 + k (w − u)/σ)^(−1/k−1) for w > u, the largest weight that is not among the M. Such weights
    have moments of order below 1/k: for k ≥ 0.5 their variance is infinite, for k ≥ 1 their mean. k̂ is the estimate of
    Zhang and Stephens, shrunk towards 0.5 by a prior worth ten weights.

    Args:
        log_weights: log w, (S,) or (S, N), each column by itself. A constant added to a column changes nothing.

    Returns:
        k̂, () or (N,), float64. It is −∞ where the largest M weights agree within 0.1 %, as those of an exact posterior do,
        and ∞ where the tail has fewer than five weights, because there are few draws or many ties.

    Raises:
        ShapeError: another shape.
        DataError: a weight that is NaN or infinite.

    Source: Zhang and Stephens (2009); Vehtari, Simpson, Gelman, Yao and Gabry (2024), "Pareto smoothed importance
    sampling", for the tail and the prior.

    >>> uniform = torch.linspace(0.0005, 0.9995, 1000, dtype=torch.float64)
    >>> pareto_k(-0.3 * uniform.log())  # w = u^(−0.3)
    tensor(0.3236, dtype=torch.float64)
    """
    columns, shape = _columns(log_weights)
    return k_of_largest(columns.topk(min(tail_size(len(columns)) + 1, len(columns)), 0).values).reshape(shape)


def pareto_smooth(log_weights: Array) -> Tensor:
    """Pareto smoothed importance weights: log w, with the M largest replaced by expected order statistics of the tail.

    The j-th of the M tail weights becomes the quantile (j − 1/2)/M of the fitted generalized Pareto distribution, at most
    the largest w. The mean of the smoothed weights has less variance than that of w, and a small bias. Weights without a
    tail to fit (see ``pareto_k``) are returned unchanged.

    Args:
        log_weights: log w, (S,) or (S, N), each column by itself.

    Returns:
        The smoothed log w in the same order and shape, float64, not normalised.

    Raises:
        ShapeError, DataError: as ``pareto_k``.

    Source: Vehtari, Simpson, Gelman, Yao and Gabry (2024).

    >>> generator = torch.Generator().manual_seed(0)
    >>> heavy = torch.empty(1000).exponential_(1 / 0.6, generator=generator)  # log w of k = 0.6
    >>> smooth = pareto_smooth(heavy)
    >>> bool(smooth.max() <= heavy.max()), int((smooth != heavy).sum()) <= 95
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
        # The largest weight first.
        quantile = -torch.log1p(-torch.arange(size - 0.5, 0.0, -1.0).to(columns) / size).unsqueeze(-1)
        excess = scale * torch.where(k.abs() < 1e-15, quantile, torch.expm1(k * quantile) / k)
        tail = (excess + u).log().clamp_max(0.0) + largest[rows]
        columns[top.indices[:size, rows], rows.expand(size, -1)] = tail
    return columns.reshape(*columns.shape[:1], *shape)


def k_of_largest(top: Tensor) -> Tensor:
    """k̂ (N,) from the M + 1 largest log weights of each column, (M + 1, N), the largest first."""
    largest, cutoff, sizes = _tails(top)
    k = torch.full_like(largest, torch.inf)
    for size in sizes.unique().tolist():
        rows = sizes == size
        if size >= _LEAST:
            excess = (top[:size, rows] - largest[rows]).exp() - cutoff[rows].exp()
            k[rows] = _fit(excess)[0]
        elif size < 0:
            k[rows] = -torch.inf
    return k


def _columns(log_weights: Array) -> tuple[Tensor, torch.Size]:
    """The log weights as (S, N) in float64, and the shape of one number for each column."""
    try:
        values = torch.as_tensor(log_weights).detach()
    except (TypeError, ValueError, RuntimeError):
        raise ShapeError(
            f"log_weights must be a tensor or an array of numbers, (S,) or (S, N); got a {type(log_weights).__name__}, "
            "which is neither"
        ) from None
    if values.is_complex():
        raise DataError(f"log_weights must be real; got {values.dtype}")
    if values.dim() not in (1, 2) or len(values) < 2:
        raise ShapeError(
            f"log_weights must have shape (S,) or (S, N) with S ≥ 2 draws; got {tuple(values.shape)}"
        )
    values = values.double()
    if bool((values.isnan() | (values == torch.inf)).any()):
        raise DataError("log_weights must be finite, or −inf for a weight of zero; got NaN or inf")
    return values.reshape(len(values), -1), values.shape[1:]


def _tails(top: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each column: the largest log weight, the cutoff below it, and the number of weights above the cutoff.

    The number is −1 if all weights are equal but for rounding.
    """
    largest = top[0]
    cutoff = (top[-1] - largest).clamp_min(math.log(torch.finfo(torch.float64).tiny))
    sizes = (top - largest > cutoff).sum(0)
    return largest, cutoff, sizes.where(~(cutoff > -_FLAT), -1)


def _fit(excess: Tensor) -> tuple[Tensor, Tensor]:
    """Shape k and scale σ, each (N,), of the generalized Pareto distribution of excesses (n, N), the largest first.

    The likelihood of θ = −k/σ, profiled over k, is averaged over a grid whose points depend on the data, with
    k = 1/n Σ ln(1 − θ x).
    """
    n = len(excess)
    points = 30 + int(n**0.5)
    grid = 1 - (points / (torch.arange(points).to(excess) + 0.5)).sqrt()
    quartile = excess[n - int(n / 4 + 0.5)]
    theta = grid.unsqueeze(-1) / (3 * quartile) + 1 / excess[0]
    # A loop over the points, so that memory does not grow with the grid.
    k = torch.stack([torch.log1p(-point * excess).mean(0) for point in theta])
    profile = n * ((-theta / k).log() - k - 1)
    weights = profile.nan_to_num(nan=-torch.inf).softmax(0)
    best = (weights * theta).sum(0)
    shape = torch.log1p(-best * excess).mean(0)
    # The prior counts as ten more weights of k = 0.5.
    return (n * shape + 10 * 0.5) / (n + 10), -shape / best
