"""``FactorMixture``, a declared mixture of factor analysers, and its fit to coded rows with missing entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from pyro_lfm.errors import DeclarationError
from pyro_lfm.estimators.imputation.scales import SCALES, Numbers, Scale
from pyro_lfm.exact.mixtures.bayesian_factors import BayesianFactors, fit_bayesian_factors
from pyro_lfm.shapes import whole

# Nodes of the Gauss-Hermite rule by which the mean of a decoded Gaussian is computed.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
# Rows of one block.
BLOCK = 1024


@dataclass(frozen=True)
class FactorMixture:
    """A mixture of factor analysers: p(c) = π_c, p(z) = N(0, I), p(x | c, z) = N(W_c z + μ_c, diag(ψ_c)).

    With one class it is factor analysis. Loadings and means have a posterior, by variational Bayes, with automatic relevance
    determination of the factors. So more factors than needed do little harm.

    Args:
        classes: C, the number of classes.
        factors: K, the largest number of factors of a class. At most D − 1 are used.
        scale: "standard" makes columns of mean 0 and variance 1. "normal scores" takes normal quantiles of the ranks in each
            column, so that the model is a Gaussian copula.

    Source: Ghahramani and Beal (2000), "Variational inference for Bayesian mixtures of factor analysers".

    >>> FactorMixture(classes=3, factors=2)
    FactorMixture(classes=3, factors=2, scale='standard')
    """

    classes: int = 1
    factors: int = 20
    scale: Literal["standard", "normal scores"] = "standard"

    def __post_init__(self) -> None:
        whole("classes", self.classes)
        whole("factors", self.factors)
        if self.scale not in SCALES:
            raise DeclarationError(f"scale must be one of {', '.join(map(repr, SCALES))}; got {self.scale!r}")

    def fit(
        self, codes: Numbers, scale: Scale, *, seed: int, iterations: int, start: FittedMixture | None = None
    ) -> FittedMixture:
        """The fit to coded rows (N, P), NaN = missing, on a scale of theirs, from an earlier fit if one is given."""
        factors = max(1, min(self.factors, codes.shape[1] - 1))
        state = fit_bayesian_factors(
            torch.from_numpy(scale.encode(codes)),
            self.classes,
            factors,
            seed=seed,
            iterations=iterations,
            start=None if start is None else start.state,
        )
        return FittedMixture(scale, state)


@dataclass(frozen=True, eq=False)
class FittedMixture:
    """A fitted mixture with its scale. Codes go in and come out in the units of the data."""

    scale: Scale
    state: BayesianFactors

    def mean(self, codes: Numbers) -> Numbers:
        """Rows (N, P) with E[x_missing | x_observed] in place of missing entries."""
        return np.concatenate([self._mean(codes[at : at + BLOCK]) for at in range(0, len(codes), BLOCK)])

    def _mean(self, codes: Numbers) -> Numbers:
        odds, means, variances = (
            each.numpy() for each in self.state.predictive(torch.from_numpy(self.scale.encode(codes)))
        )
        out = codes.copy()
        for column, missing in enumerate(np.isnan(codes).T):
            if missing.any():
                center, spread = means[:, missing, column], np.sqrt(variances[:, missing, column])
                nodes = self.scale.decode(column, center + _NODES[:, None, None] * spread)
                mean = (odds[missing].T * np.tensordot(_WEIGHTS, nodes, 1)).sum(0)
                # Rounding must not lead a mean out of the values: a constant column stays constant.
                out[missing, column] = np.clip(mean, nodes.min((0, 1)), nodes.max((0, 1)))
        return out

    def draw(self, codes: Numbers, draws: int, generator: torch.Generator) -> Numbers:
        """Rows with draws of their missing entries, (S, N, P)."""
        drawn = self.state.draw(torch.from_numpy(self.scale.encode(codes)), draws, generator).numpy()
        out = np.broadcast_to(codes, drawn.shape).copy()
        for column, missing in enumerate(np.isnan(codes).T):
            if missing.any():
                out[:, missing, column] = self.scale.decode(column, drawn[:, missing, column])
        return out
