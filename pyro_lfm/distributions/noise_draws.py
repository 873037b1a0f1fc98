"""Draws as functions of given noise, z = f(ε), for posteriors whose rows share their noise and for exported encoders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import singledispatch
from math import pi

import numpy as np
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import MaskedDistribution
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Cauchy,
    Distribution,
    Independent,
    Laplace,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    StudentT,
    TransformedDistribution,
    Uniform,
)

from pyro_lfm.distributions.low_rank import LowRankGaussian
from pyro_lfm.errors import DeclarationError

_ALL = slice(None)


class NotOfNoise(DeclarationError):
    """A distribution whose draws are no function of a fixed number of normals and uniforms."""


class Noise(ABC):
    """Independent standard normals and uniforms, from which the draw of one variable is computed.

    A shape that is asked for is that of a batch, then of what each of its members needs. The answer has this shape, or one
    that broadcasts to it, after dimensions of draws.
    """

    @abstractmethod
    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Standard normals, of the floating type and on the device of ``like``."""

    @abstractmethod
    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Uniform numbers above 0 and below 1."""


class CommonNoise(Noise):
    """The same noise for every row of a batch, so that a mean over draws of one row does not depend on the other rows.

    Of the normals the second half is the first with the opposite sign, and their variance is one, so that means of linear
    functions are exact. The uniforms lie one in each of S equal intervals. So a mean over draws has a smaller error than
    one over independent draws. NumPy makes the numbers: a graph that is recorded meanwhile holds them as constants.

    Args:
        draws: S, the leading dimension of the noise.
        batch: how many dimensions are those of the batch.
        own: how many leading dimensions of the batch have noise of their own.
        part: the draws that are given, of the S.

    >>> noise = CommonNoise(4, batch=1).normal((3, 2), torch.zeros(()))
    >>> noise.shape, noise.mean(0).abs().max() < 1e-6, noise.square().mean(0).round(decimals=4)
    (torch.Size([4, 1, 2]), tensor(True), tensor([[1., 1.]]))
    """

    def __init__(self, draws: int, batch: int, own: int = 0, part: slice = _ALL, seed: int = 0):
        self.draws, self.batch, self.own, self.part = draws, batch, own, part
        self.generator = np.random.default_rng(seed)

    def _shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return tuple(n if k < self.own or k >= self.batch else 1 for k, n in enumerate(shape))

    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        half = self.generator.standard_normal((-(-self.draws // 2), *self._shape(shape)))
        numbers = np.concatenate([half, -half])[: self.draws]
        if self.draws > 2:
            numbers = numbers / np.sqrt(np.mean(numbers**2, 0))
        return torch.tensor(numbers[self.part], dtype=like.dtype, device=like.device)

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        shape = self._shape(shape)
        cells = np.broadcast_to(np.arange(self.draws).reshape(-1, *(1,) * len(shape)), (self.draws, *shape))
        numbers = (
            self.generator.permuted(cells, axis=0) + self.generator.random((self.draws, *shape))
        ) / self.draws
        numbers = numbers[self.part].clip(1e-7, 1 - 1e-7)
        return torch.tensor(numbers, dtype=like.dtype, device=like.device)


@singledispatch
def draw_from(distribution: Distribution, noise: Noise) -> Tensor:
    """A draw of a distribution, computed from noise. Of standard normal and uniform noise it has that distribution.

    Raises:
        NotOfNoise: the distribution is drawn by rejection, as a Gamma is, or this library knows no such function.

    >>> noise = CommonNoise(2, batch=1)
    >>> draw_from(dist.Normal(torch.zeros(3), 1.0), noise).shape
    torch.Size([2, 3])
    """
    raise NotOfNoise(
        f"{type(distribution).__name__} has draws that are no function of normal and uniform numbers"
    )


@draw_from.register
def _(distribution: Normal, noise: Noise) -> Tensor:
    loc, scale = distribution.loc, distribution.scale
    return loc + scale * noise.normal(loc.shape, loc)


@draw_from.register
def _(distribution: MultivariateNormal, noise: Noise) -> Tensor:
    loc, tril = distribution.loc, distribution._unbroadcasted_scale_tril
    return loc + (tril @ noise.normal(loc.shape, loc).unsqueeze(-1)).squeeze(-1)


@draw_from.register
def _(distribution: LowRankGaussian, noise: Noise) -> Tensor:
    loc, loadings = distribution.loc, distribution.loadings
    low = noise.normal((*loc.shape[:-1], loadings.shape[-1]), loc)
    independent = noise.normal(loc.shape, loc)
    return loc + distribution.scale * ((loadings @ low.unsqueeze(-1)).squeeze(-1) + independent)


@draw_from.register
def _(distribution: LowRankMultivariateNormal, noise: Noise) -> Tensor:
    loc, factor = distribution.loc, distribution._unbroadcasted_cov_factor
    low = noise.normal((*loc.shape[:-1], factor.shape[-1]), loc)
    independent = distribution._unbroadcasted_cov_diag.sqrt() * noise.normal(loc.shape, loc)
    return loc + (factor @ low.unsqueeze(-1)).squeeze(-1) + independent


@draw_from.register
def _(distribution: Independent, noise: Noise) -> Tensor:
    return draw_from(distribution.base_dist, noise)


@draw_from.register
def _(distribution: MaskedDistribution, noise: Noise) -> Tensor:
    return draw_from(distribution.base_dist, noise)


@draw_from.register
def _(distribution: TransformedDistribution, noise: Noise) -> Tensor:
    value = draw_from(distribution.base_dist, noise)
    for transform in distribution.transforms:
        value = transform(value)
    return value


@draw_from.register
def _(distribution: dist.Delta, noise: Noise) -> Tensor:
    return distribution.v


@draw_from.register
def _(distribution: Uniform, noise: Noise) -> Tensor:
    low, high = distribution.low, distribution.high
    return low + (high - low) * noise.uniform(low.shape, low)


@draw_from.register
def _(distribution: Laplace, noise: Noise) -> Tensor:
    centred = noise.uniform(distribution.loc.shape, distribution.loc) - 0.5
    return distribution.loc - distribution.scale * centred.sign() * (-2 * centred.abs()).log1p()


@draw_from.register
def _(distribution: Cauchy, noise: Noise) -> Tensor:
    angle = pi * (noise.uniform(distribution.loc.shape, distribution.loc) - 0.5)
    return distribution.loc + distribution.scale * angle.tan()


@draw_from.register
def _(distribution: StudentT, noise: Noise) -> Tensor:
    # Bailey (1994), "Polar generation of random variates with the t-distribution".
    loc, df = distribution.loc, distribution.df
    radius = (df * torch.expm1(-2 / df * noise.uniform(loc.shape, loc).log())).sqrt()
    return loc + distribution.scale * radius * (2 * pi * noise.uniform(loc.shape, loc)).cos()


@draw_from.register
def _(distribution: Bernoulli, noise: Noise) -> Tensor:
    probs: Tensor = distribution.probs
    return (noise.uniform(probs.shape, probs) < probs).to(probs.dtype)


@draw_from.register
def _(distribution: Categorical, noise: Noise) -> Tensor:
    # The last category takes all that is left, whatever the rounding of the sum.
    below = distribution.probs.cumsum(-1)[..., :-1]
    return (noise.uniform(below.shape[:-1], below).unsqueeze(-1) >= below).sum(-1)


@draw_from.register
def _(distribution: MixtureSameFamily, noise: Noise) -> Tensor:
    events = len(distribution.event_shape)
    component = draw_from(distribution.mixture_distribution, noise)
    # A draw of each component from the same noise, of which that of the drawn one is taken.
    parts = distribution.component_distribution
    values = draw_from(parts, _OneForAll(noise, len(distribution.batch_shape)))
    chosen = component.unsqueeze(-1) == torch.arange(parts.batch_shape[-1], device=component.device)
    chosen = chosen.reshape(*chosen.shape, *(1,) * events)
    return values.where(chosen, values.new_zeros(())).sum(-1 - events)


class _OneForAll(Noise):
    """Noise that is the same along one dimension."""

    def __init__(self, noise: Noise, dim: int):
        self.noise, self.dim = noise, dim

    def _shape(self, shape: Sequence[int]) -> list[int]:
        return [1 if k == self.dim else n for k, n in enumerate(shape)]

    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        return self.noise.normal(self._shape(shape), like)

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        return self.noise.uniform(self._shape(shape), like)
