"""The declarations of deep estimators: likelihoods and guides by name, and the model and guide that they lead to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.distributions import constraints

from pyro_lfm.errors import DeclarationError
from pyro_lfm.estimators.estimator import Array, blocks
from pyro_lfm.estimators.linear_fits import principal_axes
from pyro_lfm.estimators.linear_start import LinearPlus, LinearStart
from pyro_lfm.exact.linear.factor_analysis import factor_analysis
from pyro_lfm.exact.linear.linear_gaussian import principal
from pyro_lfm.exact.linear.rows import Rows
from pyro_lfm.factors import Factor
from pyro_lfm.factors.variables import Code, Variable
from pyro_lfm.families import Bernoulli, Gaussian, NegativeBinomial, Poisson
from pyro_lfm.guides import Guide
from pyro_lfm.priors import StandardNormal
from pyro_lfm.programs.model import Model
from pyro_lfm.runtime import Stream
from pyro_lfm.sources.covariances import Diagonal, Full, Isotropic
from pyro_lfm.sources.networks import MLP
from pyro_lfm.sources.values import Learned

GUIDES: dict[str, type[Full | Diagonal]] = {"full": Full, "diagonal": Diagonal}
# The smallest standard deviation of the noise of a standardised column, and the smallest at the start.
_FLOOR, _START = 0.01, 0.1
# The share of a column's variance that is noise at the start, where there is no linear one.
_UNEXPLAINED = 0.5
# The default floor of the standard deviations of a latent.
_LATENT_FLOOR = 1e-3
# Rows from which the linear start is fitted, and columns beyond which it is that of principal components.
_ROWS, _COLUMNS = 20_000, 200


@dataclass(frozen=True)
class Likelihood:
    """How p(x | z) is declared.

    Attributes:
        standardised: whether the rows are given in units of their columns.
        factor: the factor of D columns from the source of their means, and the noise variances at the start.
        link: what the means of the columns are for that source.
        code: the transform by which encoders read the rows.
        logarithmic: whether the source gives the logarithm of a rate.
    """

    standardised: bool
    factor: Callable[[int, LinearPlus, NDArray[np.float64]], Factor]
    link: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    code: Any = None
    logarithmic: bool = False


def _gaussian(dim: int, mean: LinearPlus, noise: NDArray[np.float64]) -> Factor:
    """Noise of one variance for each column, or of one for all."""
    kind = Diagonal if noise.ndim else Isotropic
    return Gaussian(dim, mean=mean, covariance=kind(Learned(torch.as_tensor(noise)), min_scale=_FLOOR))


def _logits(means: NDArray[np.float64]) -> NDArray[np.float64]:
    probabilities = means.clip(0.01, 0.99)
    return np.log(probabilities / (1 - probabilities))


def _logarithms(means: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(means.clip(1e-3))


LIKELIHOODS = {
    "gaussian": Likelihood(True, _gaussian, np.zeros_like),
    "bernoulli": Likelihood(False, lambda dim, mean, noise: Bernoulli(dim, logits=mean), _logits),
    "poisson": Likelihood(
        False, lambda dim, mean, noise: Poisson(dim, rate=mean), _logarithms, "log1p", logarithmic=True
    ),
    "negative_binomial": Likelihood(
        False, lambda dim, mean, noise: NegativeBinomial(dim, logits=mean), _logarithms, "log1p"
    ),
}

STANDARDISED = [name for name, kind in LIKELIHOODS.items() if kind.standardised]


@dataclass(frozen=True)
class DeepDeclaration:
    """The parameters of a deep estimator that declare its model.

    Attributes:
        factors: K. hidden: widths of the hidden layers of encoder and decoder.
        likelihood, guide: names, or factors. prior: of z; None for N(0, I).
        noise: of the likelihood "gaussian": "diagonal" or "isotropic".
    """

    factors: int
    hidden: tuple[int, ...]
    likelihood: str | Factor
    guide: str | Factor
    prior: Factor | None = None
    noise: str = "diagonal"

    def build(self, rows: Array, seed: int) -> tuple[Model, Guide]:
        """The model and the guide for rows (N, D), in the floating type of the rows, with weights of the seed."""
        start = self._start(rows, seed)
        with Stream(seed):
            return self._built(rows, start)

    def _built(self, rows: Array, start: LinearStart | None) -> tuple[Model, Guide]:
        x = self._x(rows, start)
        prior = StandardNormal(self.factors) if self.prior is None else self.prior
        if prior.event_shape != torch.Size((self.factors,)):
            raise DeclarationError(
                f"prior must be a distribution over n_components={self.factors} numbers; got {prior!r}"
            )
        model = Model(z=prior, x=x).to(dtype=torch.from_numpy(np.zeros(1, rows.dtype)).dtype)
        return model, Guide(model, z=self._encoder(start))

    def _start(self, rows: Array, seed: int) -> LinearStart | None:
        """Factor analysis of some rows, where the likelihood is that of factor analysis but for its mean."""
        if self.likelihood != "gaussian":
            return None
        dense = np.concatenate([*blocks(rows)])
        if len(dense) > _ROWS:
            dense = dense[np.random.default_rng(seed).choice(len(dense), _ROWS, replace=False)]
        compressed, count = Rows.of(torch.from_numpy(dense)), min(self.factors, rows.shape[1])
        if self.noise == "isotropic" or rows.shape[1] > _COLUMNS:
            linear = principal(compressed, count, self.noise, min_scale=_START)
        else:
            linear = factor_analysis(compressed, count, min_scale=_START, iterations=50, tolerance=1e-6)
        noise = linear.noise.numpy()
        weight = np.zeros((rows.shape[1], self.factors))
        weight[:, :count] = principal_axes(linear.weight.numpy(), np.broadcast_to(noise, rows.shape[1:]))
        return LinearStart(weight, linear.bias.numpy(), noise)

    def _x(self, rows: Array, start: LinearStart | None) -> Factor:
        """The likelihood."""
        dim = rows.shape[1]
        if isinstance(self.likelihood, Factor):
            event = constraints.independent(constraints.real, 1)
            return self.likelihood.for_variable(Variable("x", torch.Size((dim,)), event))
        return observed(rows, self.likelihood, self.hidden, start)

    def _encoder(self, start: LinearStart | None) -> Factor:
        """The guide's factor for z."""
        if isinstance(self.guide, Factor):
            return self.guide
        kind = GUIDES[self.guide]
        if start is None:
            return Gaussian(mean=MLP(*self.hidden), covariance=kind(MLP(*self.hidden)))
        weight, bias, covariance = start.encoder()
        natural = torch.as_tensor(covariance)
        raw = kind().to_raw(
            natural if kind is Full else natural.diagonal(),
            torch.Size((self.factors,)),
            torch.tensor(_LATENT_FLOOR),
        )
        # The covariance starts at that of the linear posterior, whatever the row.
        spread = LinearPlus(np.zeros((len(raw), 0)), raw.numpy(), self.hidden)
        return Gaussian(mean=LinearPlus(weight, bias, self.hidden), covariance=kind(spread))


def observed(rows: Array, likelihood: str, hidden: tuple[int, ...], start: LinearStart | None) -> Factor:
    """p(x | all latents) by its name, and the code by which encoders read the rows and recognise missing entries."""
    kind, dim = LIKELIHOODS[likelihood], rows.shape[1]
    if start is None:
        bias = kind.link(_column_statistics(rows)[0])
        factor = kind.factor(
            dim, LinearPlus(None, bias, hidden, kind.logarithmic), np.full(dim, _UNEXPLAINED)
        )
    else:
        factor = kind.factor(dim, LinearPlus(start.weight, start.bias, hidden), start.noise)
    means, spreads = _column_statistics(rows, kind.code)
    return factor.coded(Code(torch.as_tensor(means), torch.as_tensor(spreads), kind.code))


def _column_statistics(
    rows: Array, transform: str | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and spread (1 where it is 0) of the observed entries of each column, or of ln(1 + x)."""
    count = total = squares = np.zeros(rows.shape[1])
    for block in blocks(rows):
        values = np.log1p(block.clip(0)) if transform == "log1p" else block.astype(np.float64)
        count = count + (~np.isnan(values)).sum(0)
        total, squares = total + np.nansum(values, 0), squares + np.nansum(values**2, 0)
    means = total / count
    spreads = np.sqrt((squares / count - means**2).clip(0))
    return means, np.where(spreads > 1e-6, spreads, 1.0)
