"""Families of positive numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.distributions import gamma, heavy_tails
from pyro_lfm.distributions.supports import Above
from pyro_lfm.factors import Factor
from pyro_lfm.families.other_parametrizations import OF_LOCATIONS
from pyro_lfm.shapes import number
from pyro_lfm.sources.floors import Floor
from pyro_lfm.sources.source import SourceLike


class Gamma(Factor):
    """x_d | parents ~ Gamma(concentration_d, rate_d), density ∝ x^(concentration − 1) e^(−rate x), independent.

    ``lfm.parameter_priors.Gamma`` is the same distribution for a prior of a parameter.

    Args:
        event: size D, or a shape.
        concentration, rate: sources. The mean is concentration / rate.
        given, network: see ``Factor``.

    Use it for waiting times, amounts and positive latents.

    KL: closed form between two Gammas, and of a Gaussian guide with diagonal covariance against it. Draws are
    reparametrized implicitly.

    Limits: a value of 0 has density 0 where the concentration exceeds 1.

    Source: Figurnov, Mohamed and Mnih (2018), for the gradients of its draws.

    >>> import pyro_lfm as lfm
    >>> lfm.Gamma(2, concentration=lfm.Fixed(6.0), rate=lfm.Fixed(2.0)).build("x", [])().mean
    tensor([3., 3.])
    """

    instead = {"scale": "rate=, which is 1 / scale"}
    constraints = {"concentration": Above(1e-4), "rate": Above(0.0)}
    floors = {"rate": Floor(None, share=1e-4, power=-1)}

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        concentration: SourceLike = None,
        rate: SourceLike = None,
        *,
        given: str | Sequence[str] | None = None,
        network: SourceLike = None,
    ):
        sources = {"concentration": concentration, "rate": rate}
        super().__init__(event, sources, given=given, network=network)

    def distribution(self, concentration: Tensor, rate: Tensor) -> Distribution:
        return gamma.Gamma(concentration, rate, validate_args=False).to_event(len(self.shape))


class LogNormal(Factor):
    """x_d | parents ~ LogNormal(loc_d, scale_d): ln x_d ~ N(loc_d, scale_d²), independent.

    Args:
        event: size D, or a shape.
        loc, scale: sources of the mean and the standard deviation of ln x.
        min_scale: the smallest scale, without unit, about the relative spread of x.
        given, network: see ``Factor``.

    Use it for positive numbers whose relative errors are alike.

    KL: closed form between two log-normals.

    Limits: 0 has no density. Its mean grows fast with the scale.

    Source: Crow and Shimizu (1988), "Lognormal distributions".

    >>> import pyro_lfm as lfm
    >>> lfm.LogNormal(2, loc=lfm.Fixed(0.0), scale=lfm.Fixed(1.0)).build("x", [])().mean
    tensor([1.6487, 1.6487])
    """

    instead = OF_LOCATIONS

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        loc: SourceLike = None,
        scale: SourceLike = None,
        *,
        given: str | Sequence[str] | None = None,
        network: SourceLike = None,
        min_scale: float = 1e-3,
    ):
        super().__init__(event, {"loc": loc, "scale": scale}, given=given, network=network)
        self.constraints = {"scale": Above(number("min_scale", min_scale, least=0.0))}

    def distribution(self, loc: Tensor, scale: Tensor) -> Distribution:
        loc, scale = torch.broadcast_tensors(loc, scale)
        return heavy_tails.LogNormal(loc, scale, validate_args=False).to_event(len(self.shape))
