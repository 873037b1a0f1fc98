"""The horseshoe, a prior of loadings most of which are near zero."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.distributions.heavy_tails import HalfCauchy
from pyro_lfm.distributions.interface import independent
from pyro_lfm.distributions.normal import Normal
from pyro_lfm.shapes import number
from pyro_lfm.sources.drawn import Drawn
from pyro_lfm.sources.parameter_priors.parameter_prior import WeightPrior


@dataclass(eq=False, repr=False)
class Horseshoe(WeightPrior):
    """The horseshoe: w_dk ~ N(0, (τ λ_dk)²), λ_dk ~ HalfCauchy(1), τ ~ HalfCauchy(scale), for ``Linear(prior=...)``.

    Most weights shrink towards zero and a few hardly shrink, so that loadings can be interpreted. ``scale`` is the scale of
    these few, in units of the data per unit of the factor. By default it is the spread of each column.

    Use it for loadings of which most are zero, such as genes of pathways.

    Limits: only ``SVI`` serves it. Its posterior is wide and skewed, so that a Gaussian guide of it is rough.

    Source: Carvalho, Polson and Scott (2010), "The horseshoe estimator for sparse signals".

    >>> Horseshoe().weight(torch.zeros(2, 2), torch.ones(1), torch.tensor([[1.0, 2.0], [3.0, 4.0]])).stddev
    tensor([[1., 2.],
            [3., 4.]])
    """

    scale: float | None = None

    def __post_init__(self) -> None:
        if self.scale is not None:
            number("scale of Horseshoe", self.scale, least=0.0, above=True)

    def weights(self, start: Tensor) -> list[Drawn]:
        shrinkage = Drawn("shrinkage", torch.ones(1), self.shrinkage, used=False)
        local = Drawn("local", torch.ones_like(start), self.local, used=False)
        return [shrinkage, local, Drawn("weight", start, self.weight, ("shrinkage", "local"), of_rows=True)]

    def shrinkage(self, like: Tensor, unit: Tensor | float = 1.0) -> Distribution:
        scale = 1.0 if self.scale is None else self.scale
        return independent(HalfCauchy(torch.full_like(like, scale)), 1)

    def local(self, like: Tensor, unit: Tensor | float = 1.0) -> Distribution:
        return independent(HalfCauchy(torch.ones_like(like)), 2)

    def weight(
        self, like: Tensor, shrinkage: Tensor, local: Tensor, unit: Tensor | float = 1.0
    ) -> Distribution:
        scale = shrinkage.unsqueeze(-2) * local
        scale = scale * unit if self.scale is None else scale
        return independent(Normal(torch.zeros_like(scale), scale), 2)
