"""Families on the real line besides the Gaussian, with heavy tails or several modes.

A likelihood with a free scale is unbounded above, so that scales have a floor, ``min_scale``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_lfm.distributions import heavy_tails
from pyro_lfm.distributions.gaussian_mixture import GaussianMixture
from pyro_lfm.distributions.normal import Normal
from pyro_lfm.distributions.supports import Above
from pyro_lfm.factors import Factor
from pyro_lfm.families.other_parametrizations import OF_LOCATIONS, OF_PROBABILITIES
from pyro_lfm.shapes import whole
from pyro_lfm.sources.applied import Applied
from pyro_lfm.sources.floors import Floor, least_scale
from pyro_lfm.sources.source import SourceLike
from pyro_lfm.sources.values import Constant


class Laplace(Factor):
    """x_d | parents ~ Laplace(loc_d, scale_d), density exp(−|x − loc| / scale) / (2 scale), independent.

    As a prior, ``Laplace(8, loc=Fixed(0.0), scale=Fixed(1.0))`` puts most latents near zero and a few far from it.

    Args:
        event: size D, or a shape.
        loc, scale: sources of the median, and of the mean absolute deviation from it.
        min_scale: the smallest scale, in the units of the variable. By default it is 1e-3
            of a latent, and 1e-3 of each column's spread in the data of an observed variable.
        given, network: see ``Factor``.

    Use it for columns with outliers, and as a prior of latents of which most are near zero.

    KL: closed form between two Laplaces, and between it and a Gaussian with diagonal covariance.

    Limits: as a prior it does not make posterior means exactly zero.

    Source: Kotz, Kozubowski and Podgórski (2001), "The Laplace distribution".

    >>> import pyro_lfm as lfm
    >>> lfm.Laplace(2, loc=lfm.Fixed(1.0), scale=lfm.Fixed(2.0)).build("x", [])().variance
    tensor([8., 8.])
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
        min_scale: float | None = None,
    ):
        super().__init__(event, {"loc": loc, "scale": scale}, given=given, network=network)
        self.constraints = {"scale": Above(0.0)}
        self.floors = {"scale": Floor(least_scale(min_scale))}

    in_units = ("loc",)

    def distribution(self, loc: Tensor, scale: Tensor) -> Distribution:
        return dist.Laplace(loc, scale, validate_args=False).to_event(len(self.shape))


class StudentT(Factor):
    """x_d | parents ~ StudentT(df_d, loc_d, scale_d), independent and robust to outliers.

    Density ∝ [1 + (x − loc)² / (df scale²)]^(−(df + 1) / 2). The degrees of freedom are above 1, so that the mean
    exists. The variance exists above 2.

    Args:
        event: size D, or a shape.
        df, loc, scale: sources. Learned degrees of freedom start near 4.
        min_scale: the smallest scale, in the units of the variable. By default it is 1e-3
            of a latent, and 1e-3 of each column's spread in the data of an observed variable.
        given, network: see ``Factor``.

    Use it for columns with gross outliers, and as a prior with heavy tails.

    KL: Monte Carlo.

    Limits: with df near 1 the bound is noisy. Every entry has a weight of its own, so whole outlying rows are not
    recognised as such.

    Source: Lange, Little and Taylor (1989), "Robust statistical modeling using the t distribution".

    >>> import pyro_lfm as lfm
    >>> lfm.StudentT(2, loc=lfm.Fixed(3.0)).build("x", [])().mean
    tensor([3., 3.])
    """

    instead = OF_LOCATIONS

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        df: SourceLike = None,
        loc: SourceLike = None,
        scale: SourceLike = None,
        *,
        given: str | Sequence[str] | None = None,
        network: SourceLike = None,
        min_scale: float | None = None,
    ):
        super().__init__(event, {"df": df, "loc": loc, "scale": scale}, given=given, network=network)
        self.constraints = {"df": Above(1.0), "scale": Above(0.0)}
        self.floors = {"scale": Floor(least_scale(min_scale))}

    def start(self, parameter: str) -> Tensor:
        return torch.full(self.shape, 3.0 if parameter == "df" else 0.0)

    def distribution(self, df: Tensor, loc: Tensor, scale: Tensor) -> Distribution:
        df, loc, scale = torch.broadcast_tensors(df, loc, scale)
        return heavy_tails.StudentT(df, loc, scale, validate_args=False).to_event(len(self.shape))


class MixtureOfGaussians(Factor):
    """x | parents ~ Σ_c π_c N(loc_c, diag(scale_c²)), π = softmax(logits).

    As a prior it describes clusters of the latents, with networks of parents it is a mixture density network, and as a
    guide it allows several modes. Gradients of a guide's logits come from differences between draws, so that the objective
    needs several particles.

    Args:
        event: size D, or a shape.
        components: C, the number of components.
        logits: source of C numbers.
        loc, scale: sources of C × D numbers. The means start at different random values. To the output of a network
            random constants are added.
        min_scale: the smallest standard deviation, in the units of the variable. By default it is 1e-3
            of a latent, and 1e-3 of each column's spread in the data of an observed variable.
        given, network: see ``Factor``.

    Use it for latents that form clusters, for likelihoods of several modes, and for posteriors of several modes.

    KL: Monte Carlo.

    Limits: components may die, and the label of a component means nothing. ``Categorical`` with ``Lookup`` makes the
    component a latent of its own.

    Source: Dilokthanakul et al. (2016), "Deep unsupervised clustering with Gaussian mixture VAEs"; Bishop (1994),
    "Mixture density networks".

    >>> import pyro_lfm as lfm
    >>> humps = lfm.MixtureOfGaussians(1, 2, loc=lfm.Fixed([[-2.0], [2.0]]), scale=lfm.Fixed(1.0)).build("z", [])()
    >>> humps.mean.tolist(), humps.variance.tolist()
    ([0.0], [5.0])
    """

    instead = OF_LOCATIONS | OF_PROBABILITIES

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        components: int = 10,
        logits: SourceLike = None,
        loc: SourceLike = None,
        scale: SourceLike = None,
        *,
        given: str | Sequence[str] | None = None,
        network: SourceLike = None,
        min_scale: float | None = None,
    ):
        sources = {"logits": logits, "loc": loc, "scale": scale}
        super().__init__(event, sources, given=given, network=network)
        self.components = whole("components", components)
        self.constraints = {"scale": Above(0.0)}
        self.floors = {"scale": Floor(least_scale(min_scale))}

    def raw_shape(self, parameter: str) -> torch.Size:
        return torch.Size((self.components, *(() if parameter == "logits" else self.shape)))

    def own_parts(self, name: str, parts: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        part = parts["loc"] if "loc" in parts else parts["network"]
        if not isinstance(part, Applied) or self.components == 1:
            return {}
        # Mean 0 and variance 1 over the components, in every entry, so that the network's output stays their mean.
        drawn = self.start("loc")
        spread = drawn - drawn.mean(0)
        return {"apart": Constant(spread / spread.square().mean(0).sqrt(), learned=False)}

    def start(self, parameter: str) -> Tensor:
        # Components with equal starts would stay equal.
        shape = self.raw_shape(parameter)
        return torch.randn(shape) if parameter == "loc" else torch.zeros(shape)

    def distribution(
        self, logits: Tensor, loc: Tensor, scale: Tensor, *, apart: Constant | None = None
    ) -> Distribution:
        loc = loc if apart is None else loc + apart.value
        events = len(self.shape)
        batch = torch.broadcast_shapes(
            logits.shape, loc.shape[: loc.dim() - events], scale.shape[: scale.dim() - events]
        )
        component = Normal(loc, scale, validate_args=False).expand((*batch, *self.shape))
        weights = dist.Categorical(logits=logits.expand(batch), validate_args=False)
        return GaussianMixture(weights, component.to_event(events), validate_args=False)
