"""Starts for EM of mixtures: k-means++ seeds, a few rounds of k-means, and the moments of the clusters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.errors import DataError, DeclarationError, ShapeError
from pyro_lfm.exact.mixtures.bernoullis import Bernoullis
from pyro_lfm.exact.mixtures.full_gaussians import FullGaussians
from pyro_lfm.exact.mixtures.gaussians import DiagonalGaussians, Floor
from pyro_lfm.exact.mixtures.mixture import Mixture
from pyro_lfm.exact.mixtures.mixture_of_factors import FactorAnalysers
from pyro_lfm.exact.weighted_rows import pairs_of

_SAMPLE = 10_000


@dataclass(frozen=True, eq=False)
class Clusters:
    """The moments of clusters: weights (C,), means (C, D) and the variance within clusters (D,), in units of the data."""

    weights: Tensor
    means: Tensor
    variance: Tensor


def clusters(
    rows: Iterable[Tensor], classes: int, *, seed: int, rounds: int = 10, standardise: bool = True
) -> Clusters:
    """k-means of at most 10,000 rows, which are drawn at random in one pass over all rows.

    The first centre is a random row. Each further centre is a row drawn with probability proportional to its squared
    distance to the nearest centre so far. A missing entry is replaced by its column's mean. A column without any entry
    gets mean 0 and variance 1. Distances are in units of each column's standard deviation, so that the clusters do not
    depend on the units of the columns, or with ``standardise=False`` in those of the data.

    Args:
        rows: blocks x (B, D), NaN = missing.
        classes: C ≥ 1. If there are fewer distinct rows, centres coincide.
        seed: that of the random draws.
        rounds: the number of rounds of k-means. With 0 the centres are rows.

    Raises:
        DeclarationError: C < 1. DataError: no rows, or infinite entries. ShapeError: blocks of different shapes.

    Source: Arthur and Vassilvitskii (2007), "k-means++: the advantages of careful seeding".

    >>> start = clusters([torch.tensor([[0.0], [2.0], [100.0], [102.0]])], 2, seed=0)
    >>> start.means.sort(0).values.flatten().tolist(), round(float(start.variance), 9)
    ([1.0, 101.0], 1.0)
    """
    if classes < 1:
        raise DeclarationError(f"a mixture needs at least one class; got {classes}")
    x, weights = _sample(rows, seed)
    # A stream of its own, which does not depend on the number of rows: a weight of 2 draws what two rows draw.
    generator = torch.Generator().manual_seed(seed)
    observed = ~x.isnan()
    share = observed * weights[:, None]
    counts = _divisor(share.sum(0))
    mean = (share * x.nan_to_num()).sum(0) / counts
    x = torch.where(observed, x, mean)
    spread = (weights @ (x - mean).square() / weights.sum()).sqrt()
    scale = spread if standardise else torch.ones_like(x[0])
    # A constant column adds nothing to a distance.
    scale = torch.where(scale > 0, scale, 1.0)
    x = x / scale
    centres = x[_drawn(weights, generator)]
    nearest = (x - centres[0]).square().sum(-1)
    for _ in range(classes - 1):
        # If all rows are duplicates of centres, the next centre is any row.
        odds = nearest / nearest.max() if nearest.max() > 0 else torch.ones_like(nearest)
        centre = x[_drawn(weights * odds, generator)]
        centres = torch.cat([centres, centre])
        nearest = torch.minimum(nearest, (x - centre).square().sum(-1))
    label = _labels(x, centres)
    for _ in range(rounds):
        member = torch.nn.functional.one_hot(label, classes) * weights[:, None]
        of_class = member.sum(0)[:, None]
        centres = torch.where(of_class > 0, member.T @ x / _divisor(of_class), centres)
        label = _labels(x, centres)
    sizes = torch.bincount(label, weights, classes)
    squares = (share * (x - centres[label]).square()).sum(0) * scale.square()
    variance = torch.where(observed.any(0), squares / counts, 1.0)
    # One more row in each class, so that no class starts without weight.
    return Clusters((sizes + 1) / (sizes + 1).sum(), centres * scale, variance)


def _drawn(odds: Tensor, generator: torch.Generator) -> Tensor:
    """The index, (1,), of a row drawn with probability proportional to its odds, (N,)."""
    edges = odds.cumsum(0)
    place = torch.rand(1, dtype=torch.float64, generator=generator) * edges[-1]
    return torch.searchsorted(edges, place, right=True).clamp_max(len(odds) - 1)


def _divisor(count: Tensor) -> Tensor:
    """Counts, with 1 in place of 0."""
    return torch.where(count > 0, count, 1.0)


def _labels(x: Tensor, centres: Tensor) -> Tensor:
    return torch.cdist(x, centres).argmin(-1)


def _sample(rows: Iterable[Tensor], seed: int) -> tuple[Tensor, Tensor]:
    """A uniform random sample of at most 10,000 rows, those with the largest random keys, and their weights."""
    generator = torch.Generator().manual_seed(seed)
    kept, keys, weights = None, torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.float64)
    for block, of_rows in pairs_of(rows):
        x = block.detach().double()
        if x.dim() != 2 or (kept is not None and x.shape[1] != kept.shape[1]):
            raise ShapeError(f"rows must come in blocks of one shape (B, D); got {tuple(x.shape)}")
        if x.isinf().any():
            raise DataError("rows must be finite, or NaN where an entry is missing; got an infinite entry")
        kept = x if kept is None else torch.cat([kept, x])
        keys = torch.cat([keys, torch.rand(len(x), dtype=torch.float64, generator=generator)])
        weights = torch.cat([weights, torch.ones(len(x)).double() if of_rows is None else of_rows])
        if len(kept) > _SAMPLE:
            keys, chosen = keys.topk(_SAMPLE)
            kept, weights = kept[chosen], weights[chosen]
    if kept is None or not len(kept):
        raise DataError("rows must hold at least one row; got none")
    return kept, weights


def start_gaussians(
    rows: Iterable[Tensor],
    classes: int,
    *,
    seed: int,
    rounds: int = 10,
    covariance: str = "full",
    shared: bool = False,
    min_scale: Floor = 1e-3,
) -> Mixture:
    """A mixture of Gaussians to start from: the means of clusters, and the variance within clusters for all of them.

    Args:
        rows, classes, seed, rounds: as for ``clusters``.
        covariance: "isotropic", "diagonal" or "full".
        shared: whether all components share one covariance.
        min_scale: the floor of the standard deviations, one or one per column (D,).

    >>> start_gaussians([torch.randn(9, 3)], 2, seed=0, covariance="isotropic", shared=True).components.variance.shape
    torch.Size([1, 1])
    """
    parts = clusters(rows, classes, seed=seed, rounds=rounds, standardise=covariance != "isotropic")
    copies = 1 if shared else classes
    variance = torch.maximum(parts.variance, torch.as_tensor(min_scale, dtype=torch.float64) ** 2)
    if covariance == "full":
        scales = variance.sqrt().diag().repeat(copies, 1, 1)
        return Mixture(parts.weights, FullGaussians(parts.means, scales, min_scale))
    if covariance not in ("isotropic", "diagonal"):
        raise DeclarationError(f"covariance must be 'isotropic', 'diagonal' or 'full'; got {covariance!r}")
    if covariance == "isotropic":
        variance = variance.mean(0, keepdim=True)
    return Mixture(parts.weights, DiagonalGaussians(parts.means, variance.repeat(copies, 1), min_scale))


def start_bernoullis(
    rows: Iterable[Tensor], classes: int, *, seed: int, rounds: int = 10, min_prob: float = 1e-6
) -> Mixture:
    """A mixture of Bernoullis to start from: the means of clusters, moved a quarter of the way to ½.

    >>> start_bernoullis([torch.eye(4)], 2, seed=0).size
    (2, 4)
    """
    parts = clusters(rows, classes, seed=seed, rounds=rounds, standardise=False)
    return Mixture(parts.weights, Bernoullis(0.75 * parts.means + 0.125, min_prob))


def start_factors(
    rows: Iterable[Tensor],
    classes: int,
    latent: int,
    *,
    seed: int,
    rounds: int = 10,
    isotropic: bool = False,
    shared: bool = False,
    min_scale: Floor = 1e-3,
) -> Mixture:
    """A mixture of factor analysers to start from: clusters, with half of their variance in random loadings.

    >>> start_factors([torch.randn(9, 3)], 2, 1, seed=0).components.loadings.shape
    torch.Size([2, 3, 1])
    """
    if latent < 1:
        raise DeclarationError(f"a factor analyser needs at least one factor; got {latent}")
    parts = clusters(rows, classes, seed=seed, rounds=rounds, standardise=not isotropic)
    generator = torch.Generator().manual_seed(seed)
    shape = (classes, parts.means.shape[1], latent)
    draws = torch.randn(shape, generator=generator, dtype=torch.float64)
    half = torch.maximum(parts.variance / 2, torch.as_tensor(min_scale, dtype=torch.float64) ** 2)
    noise = (half.mean(0, keepdim=True) if isotropic else half).repeat(1 if shared else classes, 1)
    loadings = draws * (half / latent).sqrt()[:, None]
    return Mixture(parts.weights, FactorAnalysers(loadings, parts.means, noise, min_scale))
