"""Families of proportions: numbers between 0 and 1, and shares that sum to 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.distributions import gamma
from pyro_lfm.distributions.continuous_bernoulli import ContinuousBernoulli as Continuous
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.distributions.support_maps import StickBreaking
from pyro_lfm.distributions.supports import Above
from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.factors import Factor
from pyro_lfm.factors.variables import Variable
from pyro_lfm.families.gaussian import MeanAndCovariance
from pyro_lfm.families.other_parametrizations import OF_ODDS
from pyro_lfm.sources.covariances import Covariance, Diagonal, RawCovariance
from pyro_lfm.sources.floors import Floor
from pyro_lfm.sources.source import SourceLike


class Beta(Factor):
    """x_d | parents ~ Beta(concentration1_d, concentration0_d), independent, between 0 and 1 exclusive.

    Density ∝ x^(concentration1 − 1) (1 − x)^(concentration0 − 1). ``lfm.parameter_priors.Beta`` is the same distribution
    for a prior of a parameter.

    Args:
        event: size D, or a shape.
        concentration1, concentration0: sources. The mean is concentration1 over their sum.
        given, network: see ``Factor``.

    Use it for rates and shares of single columns, strictly between 0 and 1.

    KL: closed form between two Betas. Draws are reparametrized implicitly.

    Limits: 0 and 1 themselves have no density. Use ``ContinuousBernoulli`` where they occur.

    Source: Ferrari and Cribari-Neto (2004), "Beta regression for modelling rates and proportions".

    >>> import pyro_lfm as lfm
    >>> lfm.Beta(2, concentration1=lfm.Fixed(3.0), concentration0=lfm.Fixed(1.0)).build("x", [])().mean
    tensor([0.7500, 0.7500])
    """

    constraints = {"concentration1": Above(1e-4), "concentration0": Above(1e-4)}

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        concentration1: SourceLike = None,
        concentration0: SourceLike = None,
        *,
        given: str | Sequence[str] | None = None,
        network: SourceLike = None,
    ):
        sources = {"concentration1": concentration1, "concentration0": concentration0}
        super().__init__(event, sources, given=given, network=network)

    def distribution(self, concentration1: Tensor, concentration0: Tensor) -> Distribution:
        beta = gamma.Beta(concentration1, concentration0, validate_args=False)
        return beta.to_event(len(self.shape))


class ContinuousBernoulli(Factor):
    """x_d | parents ~ ContinuousBernoulli(logits_d), independent: grey levels between 0 and 1, both included.

    Density C(λ) λ^x (1 − λ)^(1 − x), λ = sigmoid(logits). A Bernoulli likelihood of grey levels lacks the normalisation C.

    Args:
        event: size D, or a shape.
        logits: source of the logits. The mean is not λ, but on the same side of ½.
        given, network: see ``Factor``.

    Use it for pixels in grey levels, in place of a Bernoulli likelihood.

    Limits: it has no dispersion of its own. A grey level near ½ has a wide density, whatever the network says.

    Source: Loaiza-Ganem and Cunningham (2019), "The continuous Bernoulli".

    >>> import pyro_lfm as lfm
    >>> lfm.ContinuousBernoulli(2, logits=lfm.Fixed(0.0)).build("x", [])().mean
    tensor([0.5000, 0.5000])
    """

    instead = OF_ODDS

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        logits: SourceLike = None,
        *,
        given: str | Sequence[str] | None = None,
        network: SourceLike = None,
    ):
        super().__init__(event, {"logits": logits}, given=given, network=network)

    def distribution(self, logits: Tensor) -> Distribution:
        return Continuous(logits).to_event(len(self.shape))


class _Shares(Factor):
    """The base class of families on the simplex: K ≥ 2 shares, of which K − 1 are free."""

    def for_variable(self, variable: Variable) -> Factor:
        if not variable.shape:
            raise ShapeError(
                f"a {type(self).__name__} guide gives shares, and {variable.name} is a single value"
            )
        *rest, free = variable.shape
        return self.altered(event_shape=torch.Size((*rest, free + 1)))

    @property
    def shape(self) -> torch.Size:
        shape = super().shape
        if len(shape) != 1 or shape[0] < 2:
            raise ShapeError(f"{type(self).__name__} needs an event of at least 2 shares; got {tuple(shape)}")
        return shape


class Dirichlet(_Shares):
    """x | parents ~ Dirichlet(concentration), K shares that sum to 1, density ∝ Π_k x_k^(concentration_k − 1).

    ``lfm.parameter_priors.Dirichlet`` is the same distribution for a prior of a parameter.

    Args:
        event: K.
        concentration: source of K numbers. The mean is proportional to them.
        given, network: see ``Factor``.

    Use it for shares that sum to 1: compositions as data, or the proportions of topics as a latent.

    KL: closed form between two Dirichlets. Draws are reparametrized implicitly.

    Limits: shares of 0 have no density, and two shares cannot be positively correlated. ``LogisticNormal`` allows that.

    Source: Blei, Ng and Jordan (2003), section 3, as a latent.

    >>> import pyro_lfm as lfm
    >>> lfm.Dirichlet(2, concentration=lfm.Fixed([1.0, 3.0])).build("z", [])().mean
    tensor([0.2500, 0.7500])
    """

    constraints = {"concentration": Above(1e-4)}

    def __init__(
        self,
        event: int | None = None,
        concentration: SourceLike = None,
        *,
        given: str | Sequence[str] | None = None,
        network: SourceLike = None,
    ):
        super().__init__(event, {"concentration": concentration}, given=given, network=network)

    def distribution(self, concentration: Tensor) -> Distribution:
        return gamma.Dirichlet(concentration, validate_args=False)


class LogisticNormal(_Shares, MeanAndCovariance):
    """x | parents: K shares that sum to 1, a Gaussian with K − 1 entries, mapped to the simplex by stick breaking.

    With ``Full`` covariance, shares may be positively correlated, unlike those of a Dirichlet.

    Args:
        event: K.
        mean: source of the K − 1 means of the Gaussian.
        covariance: its covariance, as for ``Gaussian``.
        given, network: see ``Factor``.

    Use it for shares that may rise together, and as a guide of a ``Dirichlet`` latent by networks.

    KL: closed form between two of the same size, else Monte Carlo.

    Limits: shares of 0 have no density. The order of the entries matters, because stick breaking takes them one by one.

    Source: Aitchison and Shen (1980), "Logistic-normal distributions"; Blei and Lafferty (2007), "A correlated topic
    model of Science".

    >>> torch.allclose(LogisticNormal(3).build("z", [])().sample((2,)).sum(-1), torch.ones(2))
    True
    """

    def __init__(
        self,
        event: int | None = None,
        mean: SourceLike = None,
        covariance: Covariance | None = None,
        *,
        given: str | Sequence[str] | None = None,
        network: SourceLike = None,
    ):
        covariance = Diagonal() if covariance is None else covariance
        if not isinstance(covariance, Covariance) or covariance.drawn:
            raise DeclarationError(
                "covariance of LogisticNormal must be Isotropic, Diagonal, LowRank or Full, without a prior; got "
                f"{covariance!r}"
            )
        # The Gaussian has no unit, so that the default floor is the number 1e-3.
        floor = Floor(1e-3 if covariance.min_scale is None else covariance.min_scale)
        super().__init__(event, mean, covariance, floor, given=given, network=network)

    @property
    def gaussian_event(self) -> torch.Size:
        return torch.Size((self.shape[0] - 1,))

    def unit(self, parameter: str, units: Tensor) -> Tensor:
        """1 for each entry of the Gaussian, which is no share: the spread of shares says nothing of its scale."""
        return super().unit(parameter, units.new_ones(self.gaussian_event))

    def distribution(self, mean: Tensor, covariance: RawCovariance) -> Distribution:
        return Pushforward(super().distribution(mean, covariance), [StickBreaking()])
