"""Several mixtures combined with weights that fit known entries which were hidden for the purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import nnls

from pyro_lfm.estimators.imputation.factor_mixture import FactorMixture, FittedMixture
from pyro_lfm.estimators.imputation.scales import SCALES, Mask, Numbers, Scale, Standard

# The share of known entries that is hidden at a time, how many hidden entries are wanted, and the most repetitions.
_SHARE, _ENTRIES, _REPEATS = 0.15, 1500, 2
# Pull of the weights to equal ones, as a share of the variance of the hidden entries.
_PULL = 0.02
# Mixtures with a smaller weight are left out.
_LEAST = 0.04
# Rows from which on there are many classes.
_LARGE = 1000


@dataclass(frozen=True, eq=False)
class Stack:
    """Fitted mixtures with their weights. The predictive distribution is the weighted mixture of theirs.

    Attributes:
        models: what each was declared as. fits: what was fitted. weights: (M,), above 0, with sum 1.

    Source: Breiman (1996), "Stacked regressions"; Yao, Vehtari, Simpson and Gelman (2018) for distributions.
    """

    models: tuple[FactorMixture, ...]
    fits: tuple[FittedMixture, ...]
    weights: Numbers

    def mean(self, codes: Numbers) -> Numbers:
        """Rows (N, P) with their missing entries replaced by predictive means."""
        means = np.stack([fit.mean(codes) for fit in self.fits])
        mean = np.clip(np.tensordot(self.weights, means, 1), means.min(0), means.max(0))
        return np.where(np.isnan(codes), mean, codes)

    def draw(self, codes: Numbers, draws: int, generator: torch.Generator) -> Numbers:
        """Rows with draws of their missing entries, (S, N, P). Each draw is one of one mixture for all rows."""
        offset = float(torch.rand((), generator=generator, dtype=torch.float64))
        place = (np.arange(draws) + offset) / draws
        chosen = np.minimum(np.searchsorted(np.cumsum(self.weights), place), len(self.fits) - 1)
        parts = [
            fit.draw(codes, count, generator)
            for fit, count in zip(self.fits, np.bincount(chosen, minlength=len(self.fits)), strict=True)
            if count
        ]
        order = torch.randperm(draws, generator=generator).numpy()
        return np.concatenate(parts)[order]


def default_models(rows: int, codes: int) -> tuple[FactorMixture, ...]:
    """The mixtures that are combined by default: more classes where there are more rows."""
    linear = FactorMixture(1, 20)
    if codes < 2:
        return (linear,)
    if rows < 60:
        return (linear, FactorMixture(2, 4))
    copula = FactorMixture(1, 20, "normal scores")
    if rows < _LARGE:
        few = (
            FactorMixture(2, 4),
            FactorMixture(2, 10, "normal scores"),
            FactorMixture(3, 3, "normal scores"),
        )
        return (linear, copula, *few, FactorMixture(5, 5))
    many = (FactorMixture(10, 25, "normal scores"), FactorMixture(20, 15, "normal scores"))
    return (linear, copula, *many, FactorMixture(20, 15), FactorMixture(40, 8, "normal scores"))


def fit_stack(
    codes: Numbers, groups: Sequence[Sequence[int]], models: Sequence[FactorMixture], seed: int
) -> Stack:
    """Fits mixtures to coded rows (N, P), and weighs them by the squared error of entries that they did not see.

    Args:
        groups: the columns of the codes of each column of the table; they are hidden together.
    """
    labels = np.zeros(codes.shape[1], dtype=bool)
    for group in groups:
        labels[list(group)] = len(group) > 1
    scales = _scales(codes, labels, models)
    # Many classes predict hidden entries no better after more iterations.
    iterations = 40 if len(codes) < _LARGE else 16
    if len(models) == 1:
        fit = models[0].fit(codes, scales[models[0].scale], seed=seed, iterations=iterations)
        return Stack(tuple(models), (fit,), np.ones(1))
    starts: list[FittedMixture] = []
    predicted, truth = [], []
    standard = Standard.of(codes, np.zeros(codes.shape[1], dtype=bool))
    for hidden in _hidden(codes, groups, seed):
        known = np.where(hidden, np.nan, codes)
        own = _scales(known, labels, models)
        fits = [model.fit(known, own[model.scale], seed=seed, iterations=iterations) for model in models]
        starts = starts or fits
        # In deviations from the mean of each column, whatever its units.
        predicted.append(np.stack([standard.encode(fit.mean(known))[hidden] for fit in fits]))
        truth.append(standard.encode(codes)[hidden])
    weights = np.full(len(models), 1 / len(models))
    if truth:
        weights = stacking_weights(np.concatenate(predicted, 1), np.concatenate(truth))
    kept = np.flatnonzero(weights >= min(_LEAST, weights.max())).tolist()
    fitted = [
        models[k].fit(
            codes,
            scales[models[k].scale],
            seed=seed,
            iterations=iterations // 4,
            start=starts[k] if starts else None,
        )
        for k in kept
    ]
    return Stack(tuple(models[k] for k in kept), tuple(fitted), weights[kept] / weights[kept].sum())


def _scales(codes: Numbers, labels: Mask, models: Sequence[FactorMixture]) -> dict[str, Scale]:
    """The scales that the models share, by name."""
    return {model.scale: SCALES[model.scale](codes, labels) for model in models}


def stacking_weights(predicted: Numbers, truth: Numbers) -> Numbers:
    """Weights w ≥ 0 (M,) with sum 1 that minimise the squared error of Σ w_m predicted_m, with a pull to equal weights.

    >>> truth = np.random.default_rng(0).normal(size=200)
    >>> stacking_weights(np.stack([truth, 0 * truth]), truth).round(1)
    array([1., 0.])
    """
    models, entries = predicted.shape
    center = truth.mean()
    pull = np.sqrt(_PULL * max(float(np.var(truth)), 1e-12) * models)
    heavy = 1e4 * (1.0 + pull)  # the sum of the weights is 1
    matrix = (predicted - center).T / np.sqrt(entries)
    design = np.concatenate([matrix, pull * np.eye(models), np.full((1, models), heavy)])
    target = np.concatenate([(truth - center) / np.sqrt(entries), np.full(models, pull / models), [heavy]])
    weights = nnls(design, target)[0]
    return weights / weights.sum()


def _hidden(codes: Numbers, groups: Sequence[Sequence[int]], seed: int) -> list[Mask]:
    """Disjoint masks (N, P) of known entries to hide. Every column keeps two; no mask where too few are known."""
    known = ~np.isnan(codes)
    place = np.empty(codes.shape)
    rng = np.random.default_rng(seed)
    for group in groups:
        place[:, group] = rng.random((len(codes), 1))
    repeats = int(np.clip(np.ceil(_ENTRIES / (_SHARE * max(1, known.sum()))), 1, _REPEATS))
    masks = []
    for k in range(repeats):
        hidden = known & (place >= k * _SHARE) & (place < (k + 1) * _SHARE)
        hidden[:, (known & ~hidden).sum(0) < 2] = False
        if hidden.any():
            masks.append(hidden)
    return masks
