"""Families: factors whose law is one of the field's standard distributions."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch

from pyro_lfm.distributions.covariances import Covariance, Diagonal, Full
from pyro_lfm.distributions.lookup import Lookup
from pyro_lfm.distributions.parameter_priors import Dirichlet, NormalGamma, NormalWishart, Stochastic
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors import Factor, source_words
from pyro_lfm.shapes import whole
from pyro_lfm.variables import Variable


class Gaussian(Factor):
    """x | parents ~ N(μ, Σ), mean and covariance each from a source of its own or both from one ``network``.

    Args:
        event: size D, or a shape such as (1, 28, 28).
        mean: source of μ.
        covariance: ``Isotropic``, ``Diagonal`` (default), ``LowRank`` or ``Full``, holding the source of Σ.
        given, network: see ``Factor``.
        prior: of mean and precision together, ``NormalGamma`` with ``Diagonal``, ``NormalWishart`` with ``Full``; each
            must be learned or a ``Lookup()``, one for each category.

    >>> from pyro_lfm.distributions.sources import Fixed
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

    def raw_shape(self, parameter: str) -> torch.Size:
        return self.shape if parameter == "mean" else self.covariance.raw_shape(self.shape)

    def start(self, parameter: str) -> torch.Tensor:
        return torch.zeros(self.shape) if parameter == "mean" else self.covariance.start(self.shape)

    def to_raw(self, parameter: str, value: torch.Tensor) -> torch.Tensor:
        return value if parameter == "mean" else self.covariance.to_raw(value, self.shape)

    def distribution(self, mean: torch.Tensor, covariance: torch.Tensor) -> Any:
        return self.covariance.distribution(mean, covariance, self.shape)

    def describe(self) -> str:
        sources, trunk = self._declared
        mean, spread = (source_words(sources[name], trunk) for name in ("mean", "covariance"))
        return f"Gaussian(mean: {mean}, covariance: {self.covariance!r} {spread})"


def _joint_prior(prior: Any, mean: Any, covariance: Covariance) -> Any:
    """Has the precision drawn from its prior; returns the source of the mean, which is drawn knowing it."""
    wanted = {NormalGamma: Diagonal, NormalWishart: Full}.get(type(prior))
    if wanted is None or not isinstance(covariance, wanted):
        raise DeclarationError(
            "prior of a Gaussian must be lfm.NormalGamma with Diagonal covariance or lfm.NormalWishart with Full; got "
            f"{prior!r} with {covariance!r}"
        )
    made = []
    for name, source in (("mean", mean), ("covariance", covariance.source)):
        if source is not None and not (isinstance(source, Lookup) and source.drawn(name) is None):
            raise DeclarationError(
                f"{name} of a Gaussian with a prior must be left out or Lookup(); got {source!r}"
            )
        drawn = Stochastic("mean", prior, prior.location, reads=("precision",))
        if name == "covariance":
            drawn = Stochastic("precision", prior, prior.precision)
        made.append(drawn if source is None else Lookup(drawn))
    covariance.source = None
    covariance.draw(made[1])
    return made[0]


class Bernoulli(Factor):
    """x_d | parents ~ Bernoulli(sigmoid(logits_d)), independent; x is 0 or 1.

    >>> from pyro_lfm.distributions.sources import Fixed
    >>> Bernoulli(2, logits=Fixed(0.0)).build("x", [])().mean
    tensor([0.5000, 0.5000])
    """

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        logits: Any = None,
        *,
        given: str | Sequence[str] | None = None,
        network: Any = None,
    ):
        super().__init__(event, {"logits": logits}, given=given, network=network)

    def distribution(self, logits: torch.Tensor) -> Any:
        return dist.Bernoulli(logits=logits, validate_args=False).to_event(len(self.shape))


class Poisson(Factor):
    """x_d | parents ~ Poisson(rate_d), independent counts; a network's output passes through softplus.

    >>> from pyro_lfm.distributions.sources import Fixed
    >>> Poisson(2, rate=Fixed(3.0)).build("x", [])().mean
    tensor([3., 3.])
    """

    constraints = {"rate": dist.constraints.softplus_positive}

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        rate: Any = None,
        *,
        given: str | Sequence[str] | None = None,
        network: Any = None,
    ):
        super().__init__(event, {"rate": rate}, given=given, network=network)

    def distribution(self, rate: torch.Tensor) -> Any:
        # Softplus of a very negative number is exactly zero in floating point, where log_prob would be NaN.
        tiny = torch.finfo(rate.dtype).tiny
        return dist.Poisson(rate.clamp_min(tiny), validate_args=False).to_event(len(self.shape))


class Categorical(Factor):
    """c | parents ~ Categorical(softmax(logits)), one label 0 .. categories − 1 per row, event shape ().

    Networks that have it as a parent read it one-hot.

    Args:
        categories: how many; a guide takes it from the model.
        logits: source of the logits.
        given, network: see ``Factor``.
        prior: ``Dirichlet``, of the probabilities; there is then no source.

    >>> from pyro_lfm.distributions.sources import Fixed
    >>> Categorical(4, logits=Fixed(0.0)).build("c", [])().probs
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """

    def __init__(
        self,
        categories: int | None = None,
        logits: Any = None,
        *,
        given: str | Sequence[str] | None = None,
        network: Any = None,
        prior: Dirichlet | None = None,
    ):
        if prior is not None:
            if not isinstance(prior, Dirichlet) or logits is not None or network is not None:
                raise DeclarationError(
                    f"Categorical takes prior=lfm.Dirichlet() without logits and network; got {prior!r}"
                )
            logits = Stochastic("probs", prior, prior.law, 1 / (categories or 1), to_raw=torch.log)
        super().__init__(None, {"logits": logits}, given=given, network=network)
        self.categories = None if categories is None else whole("categories", categories, least=2)
        self.event_shape = None if categories is None else torch.Size()

    def adopt(self, variable: Variable) -> None:
        if variable.categories is None:
            raise DeclarationError(f"a Categorical guide cannot serve {variable.name}, which is not a label")
        self.categories, self.event_shape = variable.categories, torch.Size()

    def raw_shape(self, parameter: str) -> torch.Size:
        if self.categories is None:
            raise DeclarationError("Categorical needs its number of categories, as in Categorical(10)")
        return torch.Size((self.categories,))

    def distribution(self, logits: torch.Tensor) -> Any:
        return dist.Categorical(logits=logits, validate_args=False)
