"""Guides that hold what variational Bayes found: conjugate distributions of the parameters, and of a row given them."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.discrete_values import sum_out_hint
from pyro_lfm.distributions.positive_definite import Wishart
from pyro_lfm.errors import DeclarationError
from pyro_lfm.exact.linear.bayesian_posterior import BayesianLinear, GammaDistribution
from pyro_lfm.exact.mixtures.bayesian_mixture import BayesianMixture
from pyro_lfm.exact.mixtures.conjugate_components import NormalGammas, NormalWisharts
from pyro_lfm.exact.mixtures.conjugate_probabilities import Betas
from pyro_lfm.guides.any_guide import AnyGuide
from pyro_lfm.programs.model import Model


class ConjugateGuide(AnyGuide):
    """q(parameters) q(latent of a row | x), each distribution fixed: there is nothing in it to learn.

    Args:
        model: the model that was fitted, of one latent and one observed factor.
        found: the posterior of its parameters.
    """

    kind: Tensor
    # The parameter that is drawn last, and the one that it is drawn knowing.
    last, before = "", ""

    def __init__(self, model: Model, found: Any):
        super().__init__()
        (self.observed,) = model.observed
        (self.latent,) = model.row_latents
        self._found = found
        # Tensors in the posterior's own float64; distributions come in the type of the model.
        for path, value in _tensors(found).items():
            self.register_buffer(path, value.clone())
        self.register_buffer("kind", torch.zeros((), dtype=model.dtype))

    @property
    def found(self) -> Any:
        """The posterior, as exact inference knows it."""
        return _with_tensors(self._found, {path: getattr(self, path) for path in _tensors(self._found)})

    def latent_descendants(self, name: str) -> set[str]:
        return {self.name(self.last)} if name == self.name(self.before) else set()

    def latent_parents(self, name: str) -> set[str]:
        return {self.name(self.before)} if name == self.name(self.last) else set()

    def rows(self, batch: Batch) -> Tensor:
        """The observed rows on the CPU, (B, D) in float64, NaN where missing."""
        x, mask = batch[self.observed], batch.mask(self.observed)
        if x is None:
            raise DeclarationError(f"the guide reads {self.observed}, which this batch does not hold")
        x = x.detach().to("cpu", torch.float64)
        return x if mask is None else x.where(mask.cpu(), torch.nan)

    def name(self, parameter: str) -> str:
        return f"{self.observed}.{parameter}"

    def like(self, *values: Tensor) -> Any:
        """Tensors in the type and place of the model."""
        return [value.to(self.kind) for value in values]


class LinearPosterior(ConjugateGuide):
    """q(α) q(τ) ∏_d q(w_d, b_d) q(z | x): Gammas and Gaussians; the bias is drawn knowing the weights."""

    last, before = "bias", "weight"

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The Pyro guide."""
        found: BayesianLinear = self.found
        values = {}
        for parameter, distribution in (("relevance", found.relevance), ("precision", found.noise)):
            shape, rate = self.like(distribution.shape, distribution.rate)
            gamma = dist.Gamma(shape.reshape(-1), rate.reshape(-1)).to_event(1)
            values[self.name(parameter)] = pyro.sample(self.name(parameter), gamma)
        line, covariance = self.like(found.line, found.covariance)
        covariance = covariance.expand(len(line), *covariance.shape[1:])
        mean, bias = line[:, :-1], line[:, -1]
        inner, cross, outer = covariance[:, :-1, :-1], covariance[:, :-1, -1:], covariance[:, -1, -1]
        distribution = dist.MultivariateNormal(mean, inner).to_event(1)
        weight = values[self.name("weight")] = pyro.sample(self.name("weight"), distribution)
        gain = torch.linalg.solve(inner, cross).squeeze(-1)
        spread = (outer - (gain * cross.squeeze(-1)).sum(-1)).clamp_min(torch.finfo(line.dtype).tiny).sqrt()
        distribution = dist.Normal(bias + ((weight - mean) * gain).sum(-1), spread).to_event(1)
        values[self.name("bias")] = pyro.sample(self.name("bias"), distribution)
        with batch.plate():
            center, spread = self.like(*found.posterior(self.rows(batch)))
            distribution = dist.MultivariateNormal(center, spread, validate_args=False)
            values[self.latent] = pyro.sample(self.latent, distribution)
        return values

    def known_marginals(self, batch: Batch) -> dict[str, Any]:
        found: BayesianLinear = self.found
        bias, variance = self.like(found.line[:, -1], found.covariance[:, -1, -1].expand(len(found.line)))
        return {self.name("bias"): dist.Normal(bias, variance.sqrt()).to_event(1)}


class MixturePosterior(ConjugateGuide):
    """q(π) ∏_c q(η_c) q(c | x): a Dirichlet, conjugate distributions of the components, responsibilities."""

    last, before = "mean", "precision"

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The Pyro guide."""
        found: BayesianMixture = self.found
        (concentration,) = self.like(found.concentration)
        weights = f"{self.latent}.probs"
        values = {weights: pyro.sample(weights, dist.Dirichlet(concentration))}
        first, second = _distributions(found.components, self.kind)
        for parameter, distribution in first.items():
            values[self.name(parameter)] = pyro.sample(self.name(parameter), distribution)
        if second is not None:
            distribution = second(values[self.name("precision")])
            values[self.name("mean")] = pyro.sample(self.name("mean"), distribution)
        with batch.plate():
            (logits,) = self.like(found.responsibilities(self.rows(batch)).log().clamp_min(-1e3))
            distribution = dist.Categorical(logits=logits)
            values[self.latent] = pyro.sample(self.latent, distribution, infer=sum_out_hint(distribution))
        return values

    def known_marginals(self, batch: Batch) -> dict[str, Any]:
        parts = self.found.components
        if isinstance(parts, NormalGammas):
            scale = (parts.rates / (parts.shapes * parts.counts)).sqrt()
            distribution = dist.StudentT(*self.like(2 * parts.shapes, parts.means, scale)).to_event(2)
        elif isinstance(parts, NormalWisharts):
            degrees = parts.degrees - parts.size[1] + 1
            tril = parts.scale_tril / (degrees * parts.counts).sqrt()[:, None, None]
            distribution = dist.MultivariateStudentT(*self.like(degrees, parts.means, tril)).to_event(1)
        else:
            return {}
        return {self.name("mean"): distribution}


def _distributions(parts: Any, kind: Tensor) -> tuple[dict[str, Any], Any]:
    """The distribution of what is drawn first, and that of the means given the precisions."""
    if isinstance(parts, Betas):
        return {"probs": dist.Beta(parts.ones.to(kind), parts.zeros.to(kind)).to_event(2)}, None
    means, counts = parts.means.to(kind), parts.counts.to(kind)
    if isinstance(parts, NormalGammas):
        distribution = dist.Gamma(parts.shapes.to(kind), parts.rates.to(kind)).to_event(2)
        return {"precision": distribution}, lambda drawn: dist.Normal(
            means, (counts * drawn).rsqrt()
        ).to_event(2)
    matrix = torch.cholesky_inverse(parts.scale_tril).to(kind)
    distribution = Wishart(parts.degrees.to(kind), covariance_matrix=matrix, validate_args=False).to_event(1)

    def location(drawn: Tensor) -> Any:
        precision = counts[:, None, None] * drawn
        return dist.MultivariateNormal(means, precision_matrix=precision, validate_args=False).to_event(1)

    return {"precision": distribution}, location


def _tensors(found: Any, prefix: str = "found") -> dict[str, Tensor]:
    """The tensors in a posterior by the path of their fields, those of its priors left out."""
    tensors = {}
    for name, value in _parts(found).items():
        path = f"{prefix}_{name}"
        if isinstance(value, Tensor):
            tensors[path] = value
        elif not name.startswith("prior"):
            tensors.update(_tensors(value, path))
    return tensors


def _with_tensors(found: Any, tensors: dict[str, Tensor], prefix: str = "found") -> Any:
    """A posterior with other tensors in its place, on the CPU and in float64."""
    parts = {}
    for name, value in _parts(found).items():
        path = f"{prefix}_{name}"
        if isinstance(value, Tensor):
            parts[name] = tensors[path].to("cpu", torch.float64)
        elif not name.startswith("prior"):
            parts[name] = _with_tensors(value, tensors, path)
    return found._replace(**parts) if isinstance(found, GammaDistribution) else replace(found, **parts)


def _parts(found: Any) -> dict[str, Any]:
    if isinstance(found, GammaDistribution):
        return found._asdict()
    return {field.name: getattr(found, field.name) for field in fields(found)}
