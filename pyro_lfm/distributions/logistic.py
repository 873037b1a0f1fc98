"""Logistic variables cut into discrete values: ordered levels, and grids such as the 256 values of a pixel.

The families ``lfm.OrderedLogistic`` and ``lfm.DiscretizedLogistic`` use them.
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch.distributions.constraints import Constraint
from torch.nn.functional import logsigmoid

from pyro_lfm.distributions.interface import Shape

# Levels of a grid in one block of a sum.
_LEVELS = 32


def log_between(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """ln[σ(high) − σ(low)] = ln σ(high) + ln σ(−low) + ln(1 − e^(low − high)), exact where both lie in one tail.

    >>> log_between(torch.tensor(50.0), torch.tensor(51.0))
    tensor(-50.4587)
    """
    gap = (high - low).clamp_min(torch.finfo(low.dtype).tiny)
    return logsigmoid(high) + logsigmoid(-low) + (-torch.expm1(-gap)).log()


class OrderedLevels(dist.Categorical):
    """A categorical distribution over the levels 0 .. L − 1 with a mean and a variance.

    >>> OrderedLevels(logits=torch.zeros(3)).mean
    tensor(1.)
    """

    @property
    def _levels(self) -> torch.Tensor:
        return torch.arange(self.logits.shape[-1], dtype=self.logits.dtype, device=self.logits.device)

    @property
    def mean(self) -> torch.Tensor:
        return (self.probs * self._levels).sum(-1)

    @property
    def variance(self) -> torch.Tensor:
        return (self.probs * (self._levels - self.mean.unsqueeze(-1)).square()).sum(-1)


def ordered_logistic(predictor: torch.Tensor, cutpoints: torch.Tensor) -> OrderedLevels:
    """P(x ≤ k) = σ(cutpoints_k − predictor), for cut points (..., L − 1).

    Pyro's own subtracts probabilities, which gives ln 0 where a level lies far in a tail.

    >>> ordered_logistic(torch.tensor(0.0), torch.tensor([-1.0, 1.0])).probs
    tensor([0.2689, 0.4621, 0.2689])
    """
    edges = cutpoints - predictor.unsqueeze(-1)
    between = log_between(edges[..., :-1], edges[..., 1:])
    log_probs = torch.cat([logsigmoid(edges[..., :1]), between, logsigmoid(-edges[..., -1:])], -1)
    return OrderedLevels(logits=log_probs, validate_args=False)


class Grid(Constraint):
    """The ``levels`` values low, low + step, ..., high. A value fits if it is within a hundredth of a step of one."""

    is_discrete = True
    event_dim = 0

    def __init__(self, low: float, high: float, levels: int):
        self.low, self.high, self.levels = low, high, levels

    @property
    def words(self) -> tuple[str, str]:
        """The requirement on data and the remedy, for errors."""
        asks = f"take one of {self.levels} values from {self.low:g} to {self.high:g} in equal steps"
        return asks, "rescale and round it, or declare other bounds or another family"

    def index(self, value: torch.Tensor) -> torch.Tensor:
        """The index of the nearest value of the grid, 0 .. levels − 1, as a floating number."""
        place = (value - self.low) * ((self.levels - 1) / (self.high - self.low))
        return place.round().clamp(0, self.levels - 1)

    def value(self, index: torch.Tensor) -> torch.Tensor:
        return self.low + index * ((self.high - self.low) / (self.levels - 1))

    def check(self, value: torch.Tensor) -> torch.Tensor:
        step = (self.high - self.low) / (self.levels - 1)
        return (value - self.value(self.index(value))).abs() <= 0.01 * step

    def __repr__(self) -> str:
        return f"Grid({self.low:g}, {self.high:g}, {self.levels})"


class DiscretizedLogistic(dist.TorchDistribution):
    """A logistic variable rounded to a grid. The first and the last value have the mass of the tails.

    P(x) = σ((x + δ/2 − loc) / scale) − σ((x − δ/2 − loc) / scale), δ the step of the grid.

    >>> distribution = DiscretizedLogistic(torch.tensor(0.5), torch.tensor(0.1), Grid(0.0, 1.0, 3))
    >>> distribution.log_prob(torch.tensor([0.0, 0.5, 1.0])).exp()
    tensor([0.0759, 0.8483, 0.0759])
    """

    arg_constraints: dict[str, Constraint] = {}

    def __init__(self, loc: torch.Tensor, scale: torch.Tensor, grid: Grid):
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.grid = grid
        super().__init__(self.loc.shape, validate_args=False)

    @property
    def support(self) -> Grid:
        return self.grid

    def expand(self, batch_shape: Shape, _instance: DiscretizedLogistic | None = None) -> DiscretizedLogistic:
        return DiscretizedLogistic(self.loc.expand(batch_shape), self.scale.expand(batch_shape), self.grid)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        k = self.grid.index(value)
        low = (self.grid.value(k - 0.5) - self.loc) / self.scale
        high = (self.grid.value(k + 0.5) - self.loc) / self.scale
        upper = torch.where(k == self.grid.levels - 1, logsigmoid(-low), log_between(low, high))
        return torch.where(k == 0, logsigmoid(high), upper)

    def sample(self, sample_shape: Shape = ()) -> torch.Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            smallest = torch.finfo(self.loc.dtype).tiny
            u = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device).clamp_min(smallest)
            logistic = self.loc + self.scale * (u.log() - torch.log1p(-u))
            return self.grid.value(self.grid.index(logistic))

    @property
    def mean(self) -> torch.Tensor:
        return self.moments()[0]

    @property
    def variance(self) -> torch.Tensor:
        return self.moments()[1]

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance, of the place K on the grid: E[K] = Σ_k P(K > k) and E[K²] = Σ_k (2k + 1) P(K > k)."""
        first, second = torch.zeros_like(self.loc), torch.zeros_like(self.loc)
        every = torch.arange(self.grid.levels - 1, dtype=self.loc.dtype, device=self.loc.device)
        location, precision = self.loc.unsqueeze(-1), 1 / self.scale.unsqueeze(-1)
        # In blocks: all levels of all pixels at once need too much memory.
        for k in every.split(_LEVELS):
            above = torch.sigmoid((location - self.grid.value(k + 0.5)) * precision)
            first, second = first + above.sum(-1), second + above @ (2 * k + 1)
        step = (self.grid.high - self.grid.low) / (self.grid.levels - 1)
        return self.grid.value(first), step**2 * (second - first.square()).clamp_min(0.0)
