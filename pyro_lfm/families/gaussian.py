"""The Gaussian, with any covariance."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors import Factor, source_words
from pyro_lfm.sources.covariances import Covariance, Diagonal, Full
from pyro_lfm.sources.drawn import Stochastic
from pyro_lfm.sources.lookup import Lookup
from pyro_lfm.sources.parameter_priors import NormalGamma, NormalWishart


class Gaussian(Factor):
    """x | parents ~ N(μ, Σ), mean and covariance each from a source of its own or both from one ``network``.

    Args:
        event: size D, or a shape such as (1, 28, 28).
        mean: source of μ.
        covariance: ``Isotropic``, ``Diagonal`` (default), ``LowRank`` or ``Full``, holding the source of Σ.
        given, network: see ``Factor``.
        prior: of mean and precision together, ``NormalGamma`` with ``Diagonal``, ``NormalWishart`` with ``Full``; each
            must be learned or a ``Lookup()``, one for each category.

    >>> from pyro_lfm.sources.sources import Fixed
    >>> Gaussian(3, mean=Fixed(1.0)).build("z", [])().mean
    tensor([1., 1., 1.])
    """

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        mean: Any = None,
        covariance: Covariance | None = None,
        *,
        given: str | Sequence[str] | None = None,
        network: Any = None,
        prior: NormalGamma | NormalWishart | None = None,
    ):
        covariance = Diagonal() if covariance is None else copy.copy(covariance)
        if not isinstance(covariance, Covariance):
            raise DeclarationError(
                "covariance must be Isotropic, Diagonal, LowRank or Full, as in covariance=Diagonal(MLP(64)); "
                f"got {covariance!r}"
            )
        if prior is not None:
            mean = _joint_prior(prior, mean, covariance)
        super().__init__(event, {"mean": mean, "covariance": covariance.source}, given=given, network=network)
        # The source stands among the sources; kept here too it would be copied with the declaration.
        self.covariance = covariance
        self.covariance.source = None
        self.floors = {"covariance": covariance.floor} if covariance.floor else {}

    in_units = ("mean", "covariance")

    def floor_shape(self, parameter: str) -> torch.Size:
        return self.covariance.floor_shape(self.shape)

    def scale_numbers(self, parameter: str, raw: torch.Tensor) -> torch.Tensor:
        return self.covariance.scale_numbers(raw, self.shape)

    def unit(self, parameter: str, units: torch.Tensor) -> torch.Tensor:
        return units if parameter == "mean" else self.covariance.unit(units)

    def raw_shape(self, parameter: str) -> torch.Size:
        return self.shape if parameter == "mean" else self.covariance.raw_shape(self.shape)

    def start(self, parameter: str) -> torch.Tensor:
        return torch.zeros(self.shape) if parameter == "mean" else self.covariance.start(self.shape)

    def to_raw(self, parameter: str, value: torch.Tensor) -> torch.Tensor:
        if parameter == "mean":
            return value
        return self.covariance.to_raw(value, self.shape, self.floor(parameter))

    def natural(self, parameter: str, raw: torch.Tensor) -> torch.Tensor:
        return raw

    def distribution(self, mean: torch.Tensor, covariance: torch.Tensor) -> Any:
        floor = self.floor("covariance") if self.floors else mean.new_zeros(())
        return self.covariance.distribution(mean, covariance, self.shape, floor)

    def describe(self) -> str:
        sources, trunk = self._declared
        mean, spread = (source_words(sources[name], trunk) for name in ("mean", "covariance"))
        return f"Gaussian(mean: {mean}, covariance: {self.covariance!r} {spread})"


def _joint_prior(prior: Any, mean: Any, covariance: Covariance) -> Any:
    """Has the precision drawn from its prior; returns the source of the mean, which is drawn knowing it."""
    wanted = {NormalGamma: Diagonal, NormalWishart: Full}.get(type(prior))
    if wanted is None or not isinstance(covariance, wanted):
        raise DeclarationError(
            "prior of a Gaussian must be lfm.parameter_priors.NormalGamma with Diagonal covariance or lfm.parameter_priors.NormalWishart with Full; got "
            f"{prior!r} with {covariance!r}"
        )
    made = []
    for name, source in (("mean", mean), ("covariance", covariance.source)):
        if source is not None and not (isinstance(source, Lookup) and source.drawn(name) is None):
            raise DeclarationError(
                f"{name} of a Gaussian with a prior must be left out or Lookup(); got {source!r}"
            )
        drawn = Stochastic("mean", prior, prior.location, reads=("precision",), located=True)
        if name == "covariance":
            drawn = Stochastic("precision", prior, prior.precision)
        made.append(drawn if source is None else Lookup(drawn))
    covariance.source = None
    covariance.draw(made[1])
    return made[0]
