"""The distribution of a transformed variable, with moments."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.score_parts import ScoreParts
from pyro.distributions.util import sum_rightmost
from torch.distributions import Transform
from torch.distributions.transforms import (
    AffineTransform,
    ComposeTransform,
    IndependentTransform,
    ReshapeTransform,
)

from pyro_lfm.distributions.logs import logs_of, mark
from pyro_lfm.runtime import Stream

_DRAWS = 4000
_BLOCK = 2_000_000  # numbers that are drawn at once


class Pushforward(dist.TransformedDistribution):
    """The distribution of T(y), y ~ base: a Gaussian carried onto the support of a constrained latent.

    Args:
        base: the distribution of y.
        transforms: T, in the order in which they are applied.
        onto: the support, where it is known better than by the last transform.

    Torch gives such a distribution no mean. Here mean and variance are exact for a reshape, and for any other
    transform Monte Carlo averages over 4,000 draws of a fixed seed (relative error about 2% of the standard
    deviation).

    >>> distribution = Pushforward(dist.Normal(0.0, 0.5), [torch.distributions.transforms.ExpTransform()])
    >>> abs(float(distribution.mean) - 2.718281828 ** 0.125) < 0.05
    True
    """

    def __init__(
        self,
        base: Any,
        transforms: list[Transform],
        validate_args: bool | None = False,
        onto: Any = None,
    ):
        # Torch takes the codomain of the last transform for the support: of an affine one, all the reals.
        self.onto = onto
        super().__init__(base, transforms, validate_args=validate_args)

    @property
    def support(self) -> Any:
        return super().support if self.onto is None else self.onto

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        with torch.no_grad():
            return self._carried(self.base_dist.sample(torch.Size(sample_shape)))

    def rsample(self, sample_shape: Any = ()) -> torch.Tensor:
        return self._carried(self.base_dist.rsample(torch.Size(sample_shape)))

    def _carried(self, free: torch.Tensor) -> torch.Tensor:
        value = free
        for transform in self.transforms:
            value = transform(value)
        # The way back would lose what floating point cannot say of the value.
        return (
            value if value is free or self.is_reshape else mark(value, free=free, transforms=self.transforms)
        )

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        known = logs_of(value)
        if known.free is None or not alike(known.transforms, self.transforms):
            return super().log_prob(value)
        points = [known.free]
        for transform in self.transforms[:-1]:
            points.append(transform(points[-1]))
        points.append(value)
        events, log_prob = len(self.event_shape), 0.0
        for transform, x, y in zip(reversed(self.transforms), points[-2::-1], points[:0:-1], strict=True):
            dims = events - transform.codomain.event_dim
            events += transform.domain.event_dim - transform.codomain.event_dim
            log_prob = log_prob - sum_rightmost(transform.log_abs_det_jacobian(x, y), dims)
        base = self.base_dist.log_prob(known.free)
        return log_prob + sum_rightmost(base, events - len(self.base_dist.event_shape))

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._get_checked_instance(Pushforward, _instance)
        new.onto = self.onto
        return super().expand(batch_shape, new)

    @property
    def partly_reparametrized(self) -> bool:
        """Whether draws carry some gradients only, as those of the base distribution do."""
        return getattr(self.base_dist, "partly_reparametrized", False)

    def score_parts(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> ScoreParts:
        if not self.partly_reparametrized:
            return super().score_parts(x, *args, **kwargs)
        known = logs_of(x)
        y = known.free if known.free is not None and alike(known.transforms, self.transforms) else None
        if y is None:
            y = x
            for transform in reversed(self.transforms):
                y = transform.inv(y)
        return self.base_dist.score_parts(y)._replace(
            log_prob=self.log_prob(x), entropy_term=self.log_prob(x)
        )

    @property
    def is_reshape(self) -> bool:
        """Whether it is the base distribution in another shape, and nothing else."""
        return len(self.transforms) == 1 and isinstance(self.transforms[0], ReshapeTransform)

    def _moment(self, name: str) -> torch.Tensor:
        if self.is_reshape:
            return self.transforms[0](getattr(self.base_dist, name))
        mean, variance = drawn_moments(self)
        return mean if name == "mean" else variance

    @property
    def mean(self) -> torch.Tensor:
        return self._moment("mean")

    @property
    def variance(self) -> torch.Tensor:
        return self._moment("variance")


def alike(these: list[Transform], those: list[Transform]) -> bool:
    """Whether two chains of transforms are the same map; torch holds ``IndependentTransform``s for different."""
    return len(these) == len(those) and all(map(_same, these, those))


def _same(one: Transform, other: Transform) -> bool:
    if one is other:
        return True
    if isinstance(one, IndependentTransform) and isinstance(other, IndependentTransform):
        same = one.reinterpreted_batch_ndims == other.reinterpreted_batch_ndims
        return same and _same(one.base_transform, other.base_transform)
    if isinstance(one, ComposeTransform) and isinstance(other, ComposeTransform):
        return alike(one.parts, other.parts)
    if isinstance(one, AffineTransform) and isinstance(other, AffineTransform):
        return _one_number(one.loc, other.loc) and _one_number(one.scale, other.scale)
    return type(one) is type(other) and one == other


def _one_number(one: Any, other: Any) -> bool:
    """Not by the values of tensors, which a compiled step may not look at."""
    return one is other or (isinstance(one, int | float) and isinstance(other, int | float) and one == other)


def drawn_moments(distribution: Any, pooled: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of a distribution from 4,000 draws of a fixed seed, in blocks: distributions of many rows are not held at once.

    Args:
        pooled: how many dimensions of its batch, from the left, are draws themselves and averaged over too.
    """
    copies, dims = distribution.batch_shape[:pooled].numel(), tuple(range(pooled + 1))
    draws = -(-_DRAWS // copies)
    block = min(
        draws, max(1, _BLOCK // max(1, distribution.batch_shape.numel() * distribution.event_shape.numel()))
    )
    with Stream(0), torch.no_grad():
        centre = distribution.sample((1,)).mean(dims)
        total, squares = torch.zeros_like(centre), torch.zeros_like(centre)
        for start in range(0, draws, block):
            apart = distribution.sample((min(block, draws - start),)) - centre
            total, squares = total + apart.sum(dims), squares + apart.square().sum(dims)
    count = draws * copies
    mean = total / count
    return centre + mean, (squares / count - mean.square()) * count / (count - 1)
