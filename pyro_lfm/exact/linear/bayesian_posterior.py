"""The prior and the variational posterior of Bayesian factor analysis; ``bayesian_linear`` computes the posterior."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_lfm.errors import DeclarationError
from pyro_lfm.exact.linear.latent_posterior import Lines, infer
from pyro_lfm.exact.linear.linear_gaussian import LinearGaussian, Posterior, check_rows


class GammaDistribution(NamedTuple):
    """Gamma distributions with density ∝ x^(shape − 1) e^(−rate·x). shape, rate: (...)."""

    shape: Tensor
    rate: Tensor

    @property
    def mean(self) -> Tensor:
        return self.shape / self.rate

    @property
    def mean_log(self) -> Tensor:
        return self.shape.digamma() - self.rate.log()

    def divergence(self, prior: GammaDistribution) -> Tensor:
        """KL(self ‖ prior) in nats, summed over all entries."""
        kl = prior.shape.lgamma() - self.shape.lgamma() + (self.shape - prior.shape) * self.shape.digamma()
        kl = kl + prior.shape * (self.rate.log() - prior.rate.log())
        return (kl + self.shape * (prior.rate / self.rate - 1)).sum()


@dataclass(frozen=True, eq=False)
class LinearPrior:
    """Priors of the parameters of x = W z + b + ε, ε ~ N(0, diag(1/τ)), z ~ N(0, I).

    w_dk ~ N(0, scale_d² / α_k), α_k ~ Gamma(relevance), b_d ~ N(bias_mean, 1/bias_precision), τ ~ Gamma(noise). Gammas
    are pairs (shape, rate). The defaults are broad for data whose columns have a scale near one. scale, bias_mean,
    bias_precision and the rate of the noise are one number, or one per column, (D,).
    """

    relevance: tuple[float, float] = (1e-3, 1e-3)
    noise: tuple[float, float | Tensor] = (1e-3, 1e-3)
    bias_mean: float | Tensor = 0.0
    bias_precision: float | Tensor = 1e-3
    scale: float | Tensor = 1.0

    def __post_init__(self) -> None:
        for name in ("relevance", "noise", "bias_precision", "scale"):
            value = getattr(self, name)
            parts = value if isinstance(value, tuple) else (value,)
            if not all(bool((torch.as_tensor(part) > 0).all()) for part in parts):
                raise DeclarationError(f"{name} must be > 0; got {value}")

    def precision(self, relevance: Tensor) -> Tensor:
        """The prior precision of (W, b) given α, (D or 1, K + 1)."""
        scale, bias = (torch.as_tensor(v, dtype=torch.float64) for v in (self.scale, self.bias_precision))
        weight, bias = relevance / scale.square().reshape(-1, 1), bias.reshape(-1, 1)
        columns = max(len(weight), len(bias))
        return torch.cat([weight.expand(columns, -1), bias.expand(columns, -1)], 1)


@dataclass(frozen=True, eq=False)
class BayesianLinear:
    """The posterior q(W, b) q(α) q(τ), with q(W, b) = ∏_d N((w_d, b_d); line_d, covariance_d).

    line: (D, K + 1), the mean of (W, b). covariance: (D or 1, K + 1, K + 1); one matrix if all columns share it.
    relevance: q(α), K Gammas. noise: q(τ), one Gamma (isotropic, shape ()) or D of them. needed: (), the number of
    factors that the data need (``needed_factors``), K until it is computed. prior: the prior of the parameters.
    """

    line: Tensor
    covariance: Tensor
    relevance: GammaDistribution
    noise: GammaDistribution
    needed: Tensor
    prior: LinearPrior

    def expected(self) -> LinearGaussian:
        """The model at the posterior means of W and b, with noise 1/E[τ]."""
        return LinearGaussian(self.line[:, :-1], self.line[:, -1], 1 / self.noise.mean)

    def posterior(self, x: Tensor) -> Posterior:
        """q(z) of each row, mean (N, K) and covariance (N, K, K), for x (N, D), NaN where missing."""
        x = check_rows(x, len(self.line))
        latents = infer(self.lines(), x, torch.ones(x.shape[0], dtype=torch.float64))
        return Posterior(latents.mean, latents.covariance[latents.pattern])

    def energy(self) -> Tensor:
        """Σ_d E[τ_d] E[w_dk]² of each factor, (K,): its variance in units of the noise, summed over columns."""
        return (self.noise.mean.expand(len(self.line)).unsqueeze(1) * self.line[:, :-1].square()).sum(0)

    def rank(self) -> int:
        """The number of factors that the data need: a model with one fewer has a lower bound (``needed_factors``)."""
        return int(self.needed)

    def without(self, factors: Tensor) -> BayesianLinear:
        """The posterior with some factors, a mask (K,), switched off: their weights have mean 0, and no covariances."""
        off = torch.cat([factors, torch.zeros(1, dtype=torch.bool)])
        line = self.line.masked_fill(off, 0.0)
        uncorrelated = (off.unsqueeze(1) | off) & ~torch.eye(len(off), dtype=torch.bool)
        covariance = self.covariance.masked_fill(uncorrelated, 0.0)
        return replace(
            self, line=line, covariance=covariance, relevance=relevance_of(line, covariance, self.prior)
        )

    def of(self, factors: Tensor) -> BayesianLinear:
        """The posterior of the model that has only some of the factors, a mask (K,)."""
        kept = torch.cat([factors, torch.ones(1, dtype=torch.bool)])
        line, covariance = self.line[:, kept], self.covariance[:, kept][:, :, kept]
        relevance = GammaDistribution(self.relevance.shape[factors], self.relevance.rate[factors])
        needed = factors.sum().double()
        return replace(self, line=line, covariance=covariance, relevance=relevance, needed=needed)

    def lines(self) -> Lines:
        """The expectations that the E step needs."""
        dim, latent_dim = len(self.line), self.line.shape[1] - 1
        return Lines(
            self.line,
            self.noise.mean.expand(dim),
            self.noise.mean_log.expand(dim),
            torch.zeros(latent_dim, dtype=torch.float64),
            torch.eye(latent_dim, dtype=torch.float64),
            self.covariance,
        )


def relevance_of(line: Tensor, covariance: Tensor, prior: LinearPrior) -> GammaDistribution:
    """The best q(α) for q(W): Gamma(a + D/2, b + ½ E[Σ_d w_dk²])."""
    dim = len(line)
    square = line.square() + covariance.diagonal(dim1=1, dim2=2)
    square = (square / torch.as_tensor(prior.scale, dtype=torch.float64).square().reshape(-1, 1)).sum(0)
    shape = torch.full_like(square[:-1], prior.relevance[0] + 0.5 * dim)
    return GammaDistribution(shape, prior.relevance[1] + 0.5 * square[:-1])
