"""Posteriors in closed form as one graph for all rows: ``exact/`` groups rows by their missing entries, a graph cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import singledispatch
from math import log, pi
from typing import Any, TypeVar

import torch
from torch import Tensor

from pyro_lfm.errors import DeclarationError
from pyro_lfm.exact.linear.bayesian_posterior import BayesianLinear
from pyro_lfm.exact.linear.latent_posterior import Lines
from pyro_lfm.exact.linear.linear_gaussian import LinearGaussian, Posterior
from pyro_lfm.exact.mixtures.bayesian_mixture import BayesianMixture
from pyro_lfm.exact.mixtures.bernoullis import Bernoullis
from pyro_lfm.exact.mixtures.conjugate_components import NormalGammas, NormalWisharts
from pyro_lfm.exact.mixtures.conjugate_probabilities import Betas
from pyro_lfm.exact.mixtures.full_gaussians import FullGaussians
from pyro_lfm.exact.mixtures.gaussians import DiagonalGaussians
from pyro_lfm.exact.mixtures.mixture import Mixture
from pyro_lfm.exact.mixtures.mixture_of_factors import FactorAnalysers

Exact = TypeVar("Exact")


@singledispatch
def in_graph(exact: Exact) -> Exact:
    """The same parameters, whose posterior of rows is one graph of tensor operations."""
    return exact


def _as(kind: type, exact: Any) -> Any:
    return kind(**{field.name: getattr(exact, field.name) for field in fields(exact)})


# Linear Gaussian models --------------------------------------------------------------------------------------


def _posterior(weight: Tensor, pull: Tensor, added: Tensor, prior: tuple[Tensor, Tensor]) -> Posterior:
    """N(M⁻¹h, M⁻¹) with M = S⁻¹ + ``added`` (B, K, K) and h = S⁻¹m + ``pull`` (B, K)."""
    mean, covariance = prior
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance))
    tril = torch.linalg.cholesky(inverse + added)
    pull = pull + inverse @ mean
    return Posterior(torch.cholesky_solve(pull.unsqueeze(-1), tril).squeeze(-1), torch.cholesky_inverse(tril))


def posterior_of_lines(lines: Lines, x: Tensor) -> Posterior:
    """The posterior for independent noise: M = S⁻¹ + Σ_d τ_d E[w_d w_dᵀ] over the observed columns d."""
    weight, bias = lines.line[:, :-1], lines.line[:, -1]
    dim, latent = weight.shape
    weighted = (~x.isnan()).to(x.dtype) * lines.precision
    pull = (weighted * (x - bias).nan_to_num()) @ weight
    outer = (weight.unsqueeze(2) * weight.unsqueeze(1)).reshape(dim, -1)
    added = (weighted @ outer).reshape(-1, latent, latent)
    if lines.covariance is not None:
        spread = lines.covariance.expand(dim, -1, -1)
        extra = (weighted @ spread.reshape(dim, -1)).reshape(-1, latent + 1, latent + 1)
        added, pull = added + extra[:, :-1, :-1], pull - extra[:, :-1, -1]
    return _posterior(weight, pull, added, (lines.prior_mean, lines.prior_covariance))


def posterior_of_full_noise(model: LinearGaussian, x: Tensor) -> Posterior:
    """The posterior for correlated noise Ψ: M = S⁻¹ + W_oᵀ Ψ_oo⁻¹ W_o, o the observed columns."""
    keep = (~x.isnan()).to(x.dtype)
    tril = torch.linalg.cholesky(masked_covariance(model.noise, keep))
    difference = (x - model.bias).nan_to_num()
    columns = torch.cat([model.weight * keep.unsqueeze(-1), difference.unsqueeze(-1)], -1)
    white = torch.linalg.solve_triangular(tril, columns, upper=False)
    weight, rest = white[..., :-1], white[..., -1:]
    return _posterior(model.weight, (weight.mT @ rest).squeeze(-1), weight.mT @ weight, model.prior)


def masked_covariance(covariance: Tensor, keep: Tensor) -> Tensor:
    """Σ (..., D, D) with the rows and columns of missing entries, where ``keep`` (B, D) is 0, those of the identity."""
    return covariance * keep.unsqueeze(-1) * keep.unsqueeze(-2) + (1 - keep).diag_embed()


class _LinearGaussian(LinearGaussian):
    def posterior(self, x: Tensor) -> Posterior:
        return (
            posterior_of_full_noise(self, x)
            if self.structure == "full"
            else posterior_of_lines(self.lines(), x)
        )


class _BayesianLinear(BayesianLinear):
    def posterior(self, x: Tensor) -> Posterior:
        return posterior_of_lines(self.lines(), x)


in_graph.register(LinearGaussian, lambda exact: _as(_LinearGaussian, exact))
in_graph.register(BayesianLinear, lambda exact: _as(_BayesianLinear, exact))

# Mixtures ----------------------------------------------------------------------------------------------------

LogDensity = Callable[[Tensor], Tensor]


@singledispatch
def log_density(components: object) -> LogDensity:
    """The function ln p(x | c) of the observed entries, or its expectation, (B, C), of rows x (B, D), NaN where missing."""
    raise DeclarationError(f"components of type {type(components).__name__} have no density in a graph")


@log_density.register
def _(components: DiagonalGaussians) -> LogDensity:
    means, variance = components.means, components.variance.expand_as(components.means)
    volume = (2 * pi * variance).log().T

    def of_rows(x: Tensor) -> Tensor:
        away = (x.unsqueeze(1) - means).nan_to_num()
        return -0.5 * ((away.square() / variance).sum(-1) + _observed(x) @ volume)

    return of_rows


@log_density.register
def _(components: FullGaussians) -> LogDensity:
    means, covariance = components.means, components.covariance

    def of_rows(x: Tensor) -> Tensor:
        keep = _observed(x).unsqueeze(1)
        tril = torch.linalg.cholesky(masked_covariance(covariance, keep))
        away = (x.unsqueeze(1) - means).nan_to_num()
        white = torch.linalg.solve_triangular(tril, away.unsqueeze(-1), upper=False).squeeze(-1)
        determinant = 2 * tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * (white.square().sum(-1) + determinant + keep.sum(-1) * log(2 * pi))

    return of_rows


def _of_probabilities(log_one: Tensor, log_zero: Tensor) -> LogDensity:
    return lambda x: x.nan_to_num() @ log_one.T + (1 - x).nan_to_num() @ log_zero.T


@log_density.register
def _(components: Bernoullis) -> LogDensity:
    return _of_probabilities(components.probs.log(), (-components.probs).log1p())


@log_density.register
def _(components: Betas) -> LogDensity:
    return _of_probabilities(*components.expected_logs)


@log_density.register
def _(components: NormalGammas) -> LogDensity:
    at_point, offset = log_density(components.point()), components.offset.T
    return lambda x: at_point(x) + _observed(x) @ offset


@log_density.register
def _(components: NormalWisharts) -> LogDensity:
    at_point, offset = log_density(components.point()), components.offset
    return lambda x: at_point(x) + offset


@log_density.register
def _(components: FactorAnalysers) -> LogDensity:
    noise = components.noise.expand_as(components.means)
    volume = (2 * pi * noise).log().T

    def of_rows(x: Tensor) -> Tensor:
        posterior = posterior_of_analysers(components, x)
        away = (x.unsqueeze(1) - components.means).nan_to_num()
        fitted = (components.loadings @ posterior.mean.unsqueeze(-1)).squeeze(-1)
        residual = (away - fitted) * _observed(x).unsqueeze(1)
        distance = (residual.square() / noise).sum(-1) + posterior.mean.square().sum(-1)
        tril = torch.linalg.cholesky(posterior.covariance)
        determinant = _observed(x) @ volume - 2 * tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * (distance + determinant)

    return of_rows


def posterior_of_analysers(components: FactorAnalysers, x: Tensor) -> Posterior:
    """p(z | x, c) for each class, mean (B, C, K) and covariance (B, C, K, K)."""
    noise, latent = components.noise.expand_as(components.means), components.latent
    prior = torch.zeros(latent, dtype=x.dtype), torch.eye(latent, dtype=x.dtype)
    each = []
    for c, (loadings, mean) in enumerate(zip(components.loadings, components.means, strict=True)):
        line = torch.cat([loadings, mean.unsqueeze(1)], 1)
        each.append(posterior_of_lines(Lines(line, 1 / noise[c], -noise[c].log(), *prior), x))
    return Posterior(*(torch.stack(parts, 1) for parts in zip(*each, strict=True)))


def _observed(x: Tensor) -> Tensor:
    """1 where an entry is observed, 0 where it is missing."""
    return (~x.isnan()).to(x.dtype)


class _FactorAnalysers(FactorAnalysers):
    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return posterior_of_analysers(self, x)


class _Mixture(Mixture):
    def __init__(self, exact: Mixture):
        super().__init__(exact.weights, in_graph(exact.components))
        object.__setattr__(self, "log_joint_of", (self.weights.log(), log_density(exact.components)))

    def responsibilities(self, x: Tensor) -> Tensor:
        return _responsibilities(self, x)


class _BayesianMixture(BayesianMixture):
    def __init__(self, exact: BayesianMixture):
        super().__init__(*(getattr(exact, field.name) for field in fields(exact)))
        object.__setattr__(self, "log_joint_of", (exact.log_weights, log_density(exact.components)))

    def responsibilities(self, x: Tensor) -> Tensor:
        return _responsibilities(self, x)


def _responsibilities(mixture: Any, x: Tensor) -> Tensor:
    log_weights, log_density_of = mixture.log_joint_of
    return (log_weights + log_density_of(x)).softmax(-1)


in_graph.register(FactorAnalysers, lambda exact: _as(_FactorAnalysers, exact))
in_graph.register(Mixture, _Mixture)
in_graph.register(BayesianMixture, _BayesianMixture)
