"""The Gaussian family, with every covariance structure."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors import Factor
from pyro_lfm.families.other_parametrizations import OF_COVARIANCES
from pyro_lfm.sources.covariances import Covariance, Diagonal, Full, RawCovariance
from pyro_lfm.sources.drawn import Stochastic
from pyro_lfm.sources.floors import Floor
from pyro_lfm.sources.lookup import Lookup
from pyro_lfm.sources.parameter_priors import NormalGamma, NormalWishart
from pyro_lfm.sources.source import Source, SourceLike


class MeanAndCovariance(Factor):
    """The base class of families with a mean and a covariance as sources."""

    covariance: Covariance

    def __init__(
        self,
        event: int | Sequence[int] | None,
        mean: SourceLike,
        covariance: Covariance,
        floor: Floor | None,
        *,
        given: str | Sequence[str] | None,
        network: SourceLike,
    ):
        super().__init__(event, {"mean": mean, "covariance": covariance.source}, given=given, network=network)
        self.covariance = covariance
        self.floors = {} if floor is None else {"covariance": floor}

    @property
    def gaussian_event(self) -> torch.Size:
        """The event shape of the Gaussian, before any transform."""
        return self.shape

    def floor_shape(self, parameter: str) -> torch.Size:
        return self.covariance.floor_shape(self.gaussian_event)

    def scale_numbers(self, parameter: str, raw: Tensor) -> Tensor:
        return self.covariance.scale_numbers(raw, self.gaussian_event)

    def unit(self, parameter: str, units: Tensor) -> Tensor:
        return units if parameter == "mean" else self.covariance.unit(units)

    def raw_shape(self, parameter: str) -> torch.Size:
        event = self.gaussian_event
        return event if parameter == "mean" else self.covariance.raw_shape(event)

    def start(self, parameter: str) -> Tensor:
        event = self.gaussian_event
        return torch.zeros(event) if parameter == "mean" else self.covariance.start(event)

    def to_raw(self, parameter: str, value: Tensor, floor: Tensor | None = None) -> Tensor:
        if parameter == "mean":
            return value
        return self.covariance.to_raw(value, self.gaussian_event, _or_zero(floor, value))

    def natural(self, parameter: str, raw: Tensor, floor: Tensor | None = None) -> Tensor | RawCovariance:
        return raw if parameter == "mean" else RawCovariance(raw, _or_zero(floor, raw))

    def distribution(self, mean: Tensor, covariance: RawCovariance) -> Distribution:
        return self.covariance.distribution(mean, covariance.raw, self.gaussian_event, covariance.floor)

    def describe(self) -> str:
        mean, covariance = self.describe_source("mean"), self.describe_source("covariance")
        return f"{type(self).__name__}(mean: {mean}, covariance: {self.covariance.describe()} {covariance})"


class Gaussian(MeanAndCovariance):
    """x | parents ~ N(μ, Σ), with a source for the mean and one for the covariance, or one ``network`` for both.

    Args:
        event: size D, or a shape such as (1, 28, 28).
        mean: source of μ.
        covariance: ``Isotropic``, ``Diagonal`` (default), ``LowRank`` or ``Full``, holding the source of Σ.
        given, network: see ``Factor``.
        prior: a joint prior of mean and precision, ``NormalGamma`` with ``Diagonal`` or ``NormalWishart`` with ``Full``.
            Mean and covariance must then be learned, or a ``Lookup()`` with values for each category. Covariances of
            each category need means of each category, because the prior of a mean depends on the precision.

    Use it for real numbers as a likelihood, as the usual guide q(z | x), and as a prior that is learned.

    KL: closed form between two Gaussians of any covariances.

    Limits: light tails, one mode. A likelihood with free variances has no maximum without the floor ``min_scale`` of its
    covariance.

    Source: Kingma and Welling (2014), appendix B, for the KL; Rezende, Mohamed and Wierstra (2014), section 2, as the
    deep latent Gaussian model.

    >>> import pyro_lfm as lfm
    >>> lfm.Gaussian(3, mean=lfm.Fixed(1.0)).build("z", [])().mean
    tensor([1., 1., 1.])
    """

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        mean: SourceLike = None,
        covariance: Covariance | None = None,
        *,
        given: str | Sequence[str] | None = None,
        network: SourceLike = None,
        prior: NormalGamma | NormalWishart | None = None,
    ):
        covariance = Diagonal() if covariance is None else covariance
        if not isinstance(covariance, Covariance):
            raise DeclarationError(
                "covariance must be Isotropic, Diagonal, LowRank or Full, as in covariance=Diagonal(MLP(64)); "
                f"got {covariance!r}"
            )
        if prior is not None:
            mean, covariance = _drawn_from(prior, mean, covariance)
        super().__init__(event, mean, covariance, covariance.floor, given=given, network=network)

    in_units = ("mean", "covariance")
    instead = OF_COVARIANCES


def _or_zero(floor: Tensor | None, like: Tensor) -> Tensor:
    """The floor, or 0 for precisions, which have none."""
    return like.new_zeros(()) if floor is None else floor


def _drawn_from(
    prior: NormalGamma | NormalWishart, mean: SourceLike, covariance: Covariance
) -> tuple[Source, Covariance]:
    """The sources of a mean and a covariance with a joint prior, which draws the precision first."""
    wanted = {NormalGamma: Diagonal, NormalWishart: Full}.get(type(prior))
    if wanted is None or not isinstance(covariance, wanted):
        raise DeclarationError(
            "prior of a Gaussian must be lfm.parameter_priors.NormalGamma with Diagonal covariance or "
            f"lfm.parameter_priors.NormalWishart with Full; got {prior!r} with {covariance!r}"
        )
    if mean is None and covariance.source is not None:
        raise DeclarationError(
            "mean of a Gaussian with a prior must be Lookup() where its covariance is, because the prior of the mean "
            f"depends on the precision; got mean=None with {covariance!r}"
        )
    tied = mean is not None and covariance.source is None
    distribution = prior.tied_location if tied else prior.location
    location = Stochastic("mean", prior, distribution, reads=("precision",), located=True)
    precision = Stochastic("precision", prior, prior.precision)
    return (
        _with_values_from(location, "mean", mean),
        covariance.with_precision_from(_with_values_from(precision, "covariance", covariance.source)),
    )


def _with_values_from(drawn: Stochastic, name: str, source: SourceLike) -> Source:
    if source is None:
        return drawn
    if isinstance(source, Lookup) and source.of is None and source.prior is None:
        return source.with_values_from(drawn)
    raise DeclarationError(f"{name} of a Gaussian with a prior must be left out or Lookup(); got {source!r}")
