"""Families of values on a grid, such as the 256 levels of a pixel."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.distributions.logistic import DiscretizedLogistic as Discretized
from pyro_lfm.distributions.logistic import Grid
from pyro_lfm.distributions.supports import Above
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors import Factor
from pyro_lfm.shapes import number, whole
from pyro_lfm.sources.source import SourceLike


def _grid(low: float, high: float, levels: int) -> Grid:
    low, high = (number(name, value, least=-1e30) for name, value in (("low", low), ("high", high)))
    if high <= low:
        raise DeclarationError(f"high must be above low={low:g}; got {high:g}")
    return Grid(low, high, whole("levels", levels, least=2))


def _narrowest(grid: Grid) -> Above:
    """The smallest scale, a thousandth of a step. It already gives a point mass, and smaller ones overflow."""
    return Above(1e-3 * (grid.high - grid.low) / (grid.levels - 1))


class DiscretizedLogistic(Factor):
    """x_d | parents: a logistic variable rounded to a grid, independent. The first and last values include the tails.

    P(x) = σ((x + δ/2 − loc) / scale) − σ((x − δ/2 − loc) / scale), δ the step of the grid. It is a probability mass, so
    that bounds are those of discrete data and comparable in bits.

    Args:
        event: size D, or a shape.
        loc, scale: sources, in the units of the data. Learned locations start in the middle of the grid.
        low, high, levels: the grid: 256 levels from 0 to 1 by default, as of pixels divided by 255.
        given, network: see ``Factor``.

    Use it for pixels of 0 to 255 and other rounded numbers, where bounds are to be compared in bits.

    Limits: one peak for each entry. Edges, which have two likely values, need the mixture.

    Source: Kingma et al. (2016), "Improving variational inference with inverse autoregressive flow", section 5.

    >>> import pyro_lfm as lfm
    >>> grey = lfm.DiscretizedLogistic(1, loc=lfm.Fixed(0.5), scale=lfm.Fixed(0.1)).build("x", [])()
    >>> grid = torch.arange(256).div(255).unsqueeze(-1)
    >>> round(float(grey.log_prob(grid).exp().sum()), 5)
    1.0
    """

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        loc: SourceLike = None,
        scale: SourceLike = None,
        *,
        low: float = 0.0,
        high: float = 1.0,
        levels: int = 256,
        given: str | Sequence[str] | None = None,
        network: SourceLike = None,
    ):
        super().__init__(event, {"loc": loc, "scale": scale}, given=given, network=network)
        self.grid = _grid(low, high, levels)
        self.constraints = {"scale": _narrowest(self.grid)}

    def start(self, parameter: str) -> Tensor:
        middle = (self.grid.low + self.grid.high) / 2
        return torch.full(self.shape, middle if parameter == "loc" else 0.0)

    def distribution(self, loc: Tensor, scale: Tensor) -> Distribution:
        return Discretized(loc, scale, self.grid).to_event(len(self.shape))


class DiscretizedLogisticMixture(Factor):
    """x_d | parents ~ Σ_c π_dc DiscretizedLogistic(loc_dc, scale_dc), a mixture for each entry, π_d = softmax(logits_d).

    Args:
        event: size D, or a shape.
        components: C, the number of components.
        logits, loc, scale: sources of D × C numbers. Learned locations start spread over the grid.
        low, high, levels: the grid: 256 levels from 0 to 1 by default, as of pixels divided by 255.
        given, network: see ``Factor``.

    Use it for pixels whose value given z is uncertain between a few levels, such as edges.

    Limits: C times as many outputs of the decoder. Entries are independent given z.

    Source: Salimans et al. (2017), "PixelCNN++", equation 2, without the dependence between channels.

    >>> DiscretizedLogisticMixture(1, 3, levels=5).build("x", [])().mean.item()
    0.5
    """

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        components: int = 5,
        logits: SourceLike = None,
        loc: SourceLike = None,
        scale: SourceLike = None,
        *,
        low: float = 0.0,
        high: float = 1.0,
        levels: int = 256,
        given: str | Sequence[str] | None = None,
        network: SourceLike = None,
    ):
        sources = {"logits": logits, "loc": loc, "scale": scale}
        super().__init__(event, sources, given=given, network=network)
        self.components = whole("components", components)
        self.grid = _grid(low, high, levels)
        self.constraints = {"scale": _narrowest(self.grid)}

    def raw_shape(self, parameter: str) -> torch.Size:
        return torch.Size((*self.shape, self.components))

    def start(self, parameter: str) -> Tensor:
        # Components with equal starts would stay equal.
        spread = torch.linspace(self.grid.low, self.grid.high, self.components + 2)[1:-1]
        return (spread if parameter == "loc" else torch.zeros(())).expand(self.raw_shape(parameter)).clone()

    def distribution(self, logits: Tensor, loc: Tensor, scale: Tensor) -> Distribution:
        logits, loc, scale = torch.broadcast_tensors(logits, loc, scale)
        weights = dist.Categorical(logits=logits, validate_args=False)
        distribution = dist.MixtureSameFamily(
            weights, Discretized(loc, scale, self.grid), validate_args=False
        )
        return distribution.to_event(len(self.shape))
