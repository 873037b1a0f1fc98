"""Declarations that variational Bayes serves, told apart: what they are to exact inference, or what stops it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import torch
from torch import Tensor

from pyro_lfm.data.readers import Table
from pyro_lfm.errors import DeclarationError
from pyro_lfm.exact.linear.bayesian_posterior import LinearPrior
from pyro_lfm.exact.mixtures.conjugate_components import ConjugateComponents, NormalGammas, NormalWisharts
from pyro_lfm.exact.mixtures.conjugate_probabilities import Betas
from pyro_lfm.factors import key_of
from pyro_lfm.families import Bernoulli, Categorical, Gaussian
from pyro_lfm.priors import StandardNormal
from pyro_lfm.programs.model import AnyModel, Model
from pyro_lfm.sources.covariances import Diagonal
from pyro_lfm.sources.linear import Linear
from pyro_lfm.sources.parameter_priors import ARD, Beta, Dirichlet, NormalGamma, NormalWishart

_SERVED = (
    "lfm.VariationalBayes serves z=StandardNormal(K) with x=Gaussian(D, mean=Linear(prior=ARD()), "
    "covariance=Isotropic or Diagonal(prior=Gamma())), and c=Categorical(C, prior=Dirichlet()) with x=Gaussian(D, "
    "mean=Lookup(), covariance=Diagonal or Full(Lookup()), prior=NormalGamma or NormalWishart(), given='c') or "
    "x=Bernoulli(D, logits=Lookup(prior=Beta()), given='c'); lfm.SVI serves every declaration"
)


def refuse(name: str, reason: str) -> NoReturn:
    raise DeclarationError(f"{name}: {reason}. {_SERVED}")


class Blocks:
    """The rows of one name, block by block, as often as they are asked for: (B, D) in float64, NaN where missing."""

    def __init__(self, table: Table, name: str):
        self.table, self.name = table, name

    def __iter__(self) -> Iterator[Tensor]:
        for index in self.table.blocks():
            yield self.table.take(index, torch.float64)[self.name]


def one_latent_one_observed(model: AnyModel) -> tuple[str, str]:
    """The names of the only latent of a row and of what is observed given it."""
    if not isinstance(model, Model):
        refuse(type(model).__name__, "a Pyro program does not declare what its distributions are")
    if len(model.row_latents) != 1:
        refuse(
            ", ".join(model.row_latents or model.latents),
            "variational Bayes by closed form needs one latent for each row",
        )
    if len(model.observed) != 1:
        refuse(", ".join(model.observed), "variational Bayes by closed form needs one observed factor")
    (latent,), (observed,) = model.row_latents, model.observed
    if len(model.factors[observed].shape) != 1:
        refuse(
            observed, f"its rows must be vectors (D,); they have shape {tuple(model.factors[observed].shape)}"
        )
    trainable = [name for name, _ in model.named_parameters()]
    factor = model.factors[latent]
    if not isinstance(factor.declaration, StandardNormal | Categorical):
        refuse(latent, f"{type(factor).__name__} is neither StandardNormal nor Categorical")
    if isinstance(factor.declaration, Categorical) and "probs" not in factor.drawn:
        refuse(latent, "its weights have no prior")
    if trainable:
        where = observed if any(f"factors.{key_of(observed)}." in name for name in trainable) else latent
        words = ", ".join(name.split(".parts.")[-1] for name in trainable)
        refuse(where, f"it has parameters without a prior ({words})")
    return latent, observed


def linear_prior(model: Model, name: str) -> LinearPrior:
    """The priors of a linear Gaussian factor."""
    factor = model.factors[name]
    source = factor.declaration.sources.get("mean")
    if not isinstance(factor.declaration, Gaussian) or not isinstance(source, Linear):
        refuse(name, f"{factor.describe()} is not a Gaussian whose mean is Linear")
    if not isinstance(source.prior, ARD):
        refuse(name, f"the weights of its mean have no ARD prior but {source.prior!r}")
    if "bias" not in factor.drawn or "precision" not in factor.drawn:
        refuse(name, "its bias and its noise need priors")
    drawn = factor.drawn
    bias, noise, ard = drawn["bias"], drawn["precision"], source.prior
    distribution = noise.prior({})
    return LinearPrior(
        relevance=(ard.shape, 1e-3 if ard.rate is None else ard.rate),
        noise=(_number(name, distribution.base_dist.concentration), _float64(distribution.base_dist.rate)),
        bias_mean=_float64(bias.prior({}).base_dist.loc),
        bias_precision=_float64(bias.prior({}).base_dist.scale) ** -2,
        scale=_float64(drawn["weight"].unit).flatten() if ard.rate is None else 1.0,
    )


def is_isotropic(model: Model, name: str) -> bool:
    return not isinstance(model.factors[name].declaration.covariance, Diagonal)


def component_prior(model: Model, name: str) -> ConjugateComponents:
    """The prior of the components of a mixture, one for all."""
    factor = model.factors[name]
    (dim,) = factor.shape
    first = factor.drawn.get("probs" if isinstance(factor.declaration, Bernoulli) else "precision")
    prior = None if first is None else first.declared
    if first is None or first.value.dim() < 2 or not isinstance(prior, Beta | NormalGamma | NormalWishart):
        refuse(name, f"{factor.describe()} has no conjugate prior for each category")
    if isinstance(prior, NormalWishart) and first.value.dim() < 3:
        refuse(name, "its mean and covariance are the same for each category")
    if isinstance(prior, Beta):
        return Betas(_row(prior.ones, dim), _row(prior.zeros, dim))
    if "mean" not in factor.drawn or factor.drawn["mean"].value.dim() < 2:
        refuse(name, "its mean is the same for each category")
    means = _row(factor.drawn["mean"].origin.detach().cpu() if prior.mean is None else prior.mean, dim)
    counts = torch.tensor(prior.count, dtype=torch.float64)
    unit = first.unit.detach().cpu().double()
    if isinstance(prior, NormalGamma):
        rate = unit**2 if prior.rate is None else prior.rate
        return NormalGammas(means, counts, _row(prior.shape, dim), _row(rate, dim))
    degrees = prior.degrees_for(dim)
    tril = torch.linalg.cholesky(degrees * prior.matrix(torch.zeros(dim, dim, dtype=torch.float64), unit))
    return NormalWisharts(means, counts, torch.tensor(degrees, dtype=torch.float64), tril[None])


def concentration(model: Model, name: str) -> Tensor:
    """α₀ of the weights, (C,)."""
    part = model.factors[name].drawn["probs"]
    prior: Dirichlet = part.declared
    return torch.as_tensor(prior.concentration, dtype=torch.float64).expand(part.value.shape)


def _number(name: str, value: Tensor) -> float:
    if bool((value != value.flatten()[0]).any()):
        refuse(name, "the shape of its priors must be the same for all columns")
    return float(value.flatten()[0])


def _float64(value: Tensor) -> Tensor:
    """One number where all are the same, else (D,)."""
    value = value.detach().cpu().double().flatten()
    return value[0] if bool((value == value[0]).all()) else value


def _row(value: Any, dim: int) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64).expand(dim)[None]
