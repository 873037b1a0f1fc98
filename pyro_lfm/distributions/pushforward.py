"""The distribution of a transformed variable, with mean and variance; guides of constrained latents and flows use it."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import pyro.distributions as dist
import torch
from pyro.distributions.score_parts import ScoreParts
from pyro.distributions.util import sum_rightmost
from torch.distributions import Distribution, Transform
from torch.distributions.constraints import Constraint
from torch.distributions.transforms import (
    AffineTransform,
    ComposeTransform,
    IndependentTransform,
    ReshapeTransform,
)

from pyro_lfm.distributions.draw_annotations import annotate, annotations_of
from pyro_lfm.distributions.interface import Shape
from pyro_lfm.distributions.noise_draws import CommonNoise, NotOfNoise, draw_from
from pyro_lfm.runtime import Stream

_DRAWS = 1000
_BLOCK = 2_000_000  # the most numbers that are drawn at once
_BLOCK_IN_GRAPH = 500  # draws at once in an exported graph


class Pushforward(dist.TransformedDistribution):
    """The distribution of T(y), y ~ base, such as a Gaussian mapped onto the support of a constrained latent.

    torch's TransformedDistribution has no mean. Here mean and variance are exact for a reshape. For other transforms
    they are averages over 1,000 draws from noise that all rows share (error of the mean at most about 3% of a standard
    deviation, and 0 if the transforms are linear).

    Args:
        base: the distribution of y.
        transforms: T, in the order in which they are applied.
        onto: the support, if the codomain of the last transform is wider.

    >>> distribution = Pushforward(dist.Normal(0.0, 0.5), [torch.distributions.transforms.ExpTransform()])
    >>> abs(float(distribution.mean) - 2.718281828 ** 0.125) < 0.05
    True
    """

    def __init__(
        self,
        base: Distribution,
        transforms: list[Transform],
        validate_args: bool | None = False,
        onto: Constraint | None = None,
    ):
        # torch's support is the codomain of the last transform. An affine one has all reals.
        self.onto = onto
        super().__init__(base, transforms, validate_args=validate_args)

    @property
    def support(self) -> Constraint:
        return super().support if self.onto is None else self.onto

    def sample(self, sample_shape: Shape = ()) -> torch.Tensor:
        with torch.no_grad():
            return self._transform(self.base_dist.sample(torch.Size(sample_shape)))

    def rsample(self, sample_shape: Shape = ()) -> torch.Tensor:
        return self._transform(self.base_dist.rsample(torch.Size(sample_shape)))

    def _transform(self, base_value: torch.Tensor) -> torch.Tensor:
        value = base_value
        for transform in self.transforms:
            value = transform(value)
        if value is base_value or self.is_reshape:
            return value
        # The inverse of T would lose digits, so the draw carries y.
        return annotate(value, unconstrained=base_value, transforms=self.transforms)

    def _base_value(self, value: torch.Tensor) -> torch.Tensor | None:
        """The y that a draw of this distribution, or of one with the same T, was computed from; None for other values."""
        annotations = annotations_of(value)
        known = annotations.transforms is not None and same_map(annotations.transforms, self.transforms)
        return annotations.unconstrained if known else None

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        base_value = self._base_value(value)
        if base_value is None:
            return super().log_prob(value)
        points = [base_value]
        for transform in self.transforms[:-1]:
            points.append(transform(points[-1]))
        points.append(value)
        events, log_prob = len(self.event_shape), 0.0
        for transform, x, y in zip(reversed(self.transforms), points[-2::-1], points[:0:-1], strict=True):
            dims = events - transform.codomain.event_dim
            events += transform.domain.event_dim - transform.codomain.event_dim
            log_prob = log_prob - sum_rightmost(transform.log_abs_det_jacobian(x, y), dims)
        base = self.base_dist.log_prob(base_value)
        return log_prob + sum_rightmost(base, events - len(self.base_dist.event_shape))

    def expand(self, batch_shape: Shape, _instance: Pushforward | None = None) -> Pushforward:
        new = self._get_checked_instance(Pushforward, _instance)
        new.onto = self.onto
        return super().expand(batch_shape, new)

    @property
    def partly_reparametrized(self) -> bool:
        """Whether draws have gradients for some parameters only, as those of the base distribution."""
        return getattr(self.base_dist, "partly_reparametrized", False)

    def score_parts(self, x: torch.Tensor) -> ScoreParts:
        if not self.partly_reparametrized:
            return super().score_parts(x)
        y = self._base_value(x)
        if y is None:
            y = x
            for transform in reversed(self.transforms):
                y = transform.inv(y)
        return self.base_dist.score_parts(y)._replace(
            log_prob=self.log_prob(x), entropy_term=self.log_prob(x)
        )

    @property
    def is_reshape(self) -> bool:
        """Whether T only reshapes the event."""
        return len(self.transforms) == 1 and isinstance(self.transforms[0], ReshapeTransform)

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance."""
        if self.is_reshape:
            mean, variance = (
                self.transforms[0](getattr(self.base_dist, name)) for name in ("mean", "variance")
            )
            return mean, variance
        return monte_carlo_moments(self)

    @property
    def mean(self) -> torch.Tensor:
        if self.is_reshape:
            return self.transforms[0](self.base_dist.mean)
        return self.moments()[0]

    @property
    def variance(self) -> torch.Tensor:
        return self.moments()[1]


def same_map(first: Sequence[Transform], second: Sequence[Transform]) -> bool:
    """Whether two chains of transforms are the same map. torch's == is False for equal ``IndependentTransform``s."""
    return len(first) == len(second) and all(map(_same, first, second))


def _same(one: Transform, other: Transform) -> bool:
    if one is other:
        return True
    if isinstance(one, IndependentTransform) and isinstance(other, IndependentTransform):
        same = one.reinterpreted_batch_ndims == other.reinterpreted_batch_ndims
        return same and _same(one.base_transform, other.base_transform)
    if isinstance(one, ComposeTransform) and isinstance(other, ComposeTransform):
        return same_map(one.parts, other.parts)
    if isinstance(one, AffineTransform) and isinstance(other, AffineTransform):
        return _one_number(one.loc, other.loc) and _one_number(one.scale, other.scale)
    return type(one) is type(other) and one == other


def _one_number(one: torch.Tensor | float, other: torch.Tensor | float) -> bool:
    """Whether two parameters are one object or equal numbers. Compiled steps may not compare values of tensors."""
    return one is other or (isinstance(one, int | float) and isinstance(other, int | float) and one == other)


def monte_carlo_moments(distribution: Distribution, pooled: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of a distribution from 1,000 draws, in blocks to bound the memory.

    Where draws are functions of noise, all rows have the same noise (see ``CommonNoise``), so that the moments of a row are
    those that it has alone. Other distributions are drawn with a fixed seed.

    Args:
        pooled: how many leading batch dimensions are draws themselves, over which the average runs too.
    """
    batch = distribution.batch_shape
    copies, dims = batch[:pooled].numel(), tuple(range(pooled + 1))
    draws = -(-_DRAWS // copies)
    with Stream(0), torch.no_grad():
        centre: torch.Tensor | None = None
        total, squares = torch.zeros(()), torch.zeros(())
        for part in _blocks(draws, prod(batch + distribution.event_shape)):
            try:
                values = draw_from(distribution, CommonNoise(draws, len(batch), pooled, part=part))
            except NotOfNoise:
                values = distribution.sample((len(range(draws)[part]),))
            centre = values.mean(dims) if centre is None else centre
            deviation = values - centre
            total, squares = total + deviation.sum(dims), squares + deviation.square().sum(dims)
    assert centre is not None  # for the type checker: there is at least one block
    count = draws * copies
    mean = total / count
    return centre + mean, (squares / count - mean.square()) * count / (count - 1)


def _blocks(draws: int, numbers: int) -> list[slice]:
    """The draws in blocks, for draws of so many numbers each. In a graph for any number of rows the blocks are few."""
    block = _BLOCK_IN_GRAPH if isinstance(numbers, torch.SymInt) else max(1, _BLOCK // max(1, numbers))
    return [slice(start, min(start + block, draws)) for start in range(0, draws, block)]
