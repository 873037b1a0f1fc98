"""Families of labels and ordered levels."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.distributions.logistic import ordered_logistic
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors import Factor
from pyro_lfm.factors.variables import Variable
from pyro_lfm.families.other_parametrizations import OF_ODDS, OF_PROBABILITIES
from pyro_lfm.shapes import whole
from pyro_lfm.sources.drawn import Stochastic
from pyro_lfm.sources.parameter_priors import Dirichlet
from pyro_lfm.sources.source import SourceLike


class Bernoulli(Factor):
    """x_d | parents ~ Bernoulli(sigmoid(logits_d)), independent. x is 0 or 1.

    Use it for columns of 0 and 1: black and white pixels, answers yes and no. As a latent it is a binary label.

    KL: closed form. As a latent of a row it is summed out (see ``ELBO``).

    Limits: grey levels between 0 and 1 are no values of it. ``ContinuousBernoulli`` takes them.

    Source: Kingma and Welling (2014), appendix C.1, as the likelihood of a VAE.

    >>> import pyro_lfm as lfm
    >>> lfm.Bernoulli(2, logits=lfm.Fixed(0.0)).build("x", [])().mean
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
        return dist.Bernoulli(logits=logits, validate_args=False).to_event(len(self.shape))


class Categorical(Factor):
    """c | parents ~ Categorical(softmax(logits)), one label 0 .. categories − 1 per row, event shape ().

    Networks read it one-hot.

    Args:
        categories: the number of labels. In a guide it follows from the model.
        logits: source of the logits.
        given, network: see ``Factor``.
        prior: ``Dirichlet``, a prior of the probabilities, without ``logits``.

    Use it for one label per row: a cluster as a latent, or a class that is known in some rows. Columns of labels come
    from ``lfm.heterogeneous``.

    KL: closed form. As a latent of a row it is summed out (see ``ELBO``).

    Limits: it is one label per row. Several columns of labels are several factors.

    Source: Kingma et al. (2014), equation 2, as a latent.

    >>> import pyro_lfm as lfm
    >>> lfm.Categorical(4, logits=lfm.Fixed(0.0)).build("c", [])().probs
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """

    instead = OF_PROBABILITIES

    def __init__(
        self,
        categories: int | None = None,
        logits: SourceLike = None,
        *,
        given: str | Sequence[str] | None = None,
        network: SourceLike = None,
        prior: Dirichlet | None = None,
    ):
        if prior is not None:
            if not isinstance(prior, Dirichlet) or logits is not None or network is not None:
                raise DeclarationError(
                    f"Categorical takes prior=lfm.parameter_priors.Dirichlet() without logits and network; got {prior!r}"
                )
            logits = Stochastic("probs", prior, prior.distribution, 1 / (categories or 1), to_raw=torch.log)
        super().__init__(None, {"logits": logits}, given=given, network=network)
        self.categories = None if categories is None else whole("categories", categories)
        self.event_shape = None if categories is None else torch.Size()

    def for_variable(self, variable: Variable) -> Categorical:
        if variable.categories is None:
            raise DeclarationError(f"a Categorical guide cannot serve {variable.name}, which is not a label")
        return self.altered(categories=variable.categories, event_shape=torch.Size())

    def raw_shape(self, parameter: str) -> torch.Size:
        if self.categories is None:
            raise DeclarationError("Categorical needs its number of categories, as in Categorical(10)")
        return torch.Size((self.categories,))

    def distribution(self, logits: Tensor) -> Distribution:
        return dist.Categorical(logits=logits, validate_args=False)


class OrderedLogistic(Factor):
    """x_d | parents: one of L ordered levels 0 .. L − 1, P(x_d ≤ k) = sigmoid(cutpoints_dk − predictor_d), independent.

    Args:
        event: size D, or a shape.
        levels: L, the number of levels.
        predictor: source of one number for each entry. The higher it is, the higher the levels.
        cutpoints: source of L − 1 numbers for each entry. They are cumulative sums of positive steps, and so always in
            order. By default each column has its own.
        given, network: see ``Factor``.

    Use it for grades and answers on a scale, such as 1 to 5. Only the order of the levels matters.

    Limits: all levels of a column move along one predictor. A level that no row has gets no information.

    Source: McCullagh (1980), "Regression models for ordinal data".

    >>> import pyro_lfm as lfm
    >>> grades = lfm.OrderedLogistic(1, 3, predictor=lfm.Fixed(0.0), cutpoints=lfm.Fixed([-1.0, 1.0]))
    >>> grades.build("x", [])().mean
    tensor([1.])
    """

    constraints = {"cutpoints": dist.constraints.ordered_vector}

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        levels: int = 5,
        predictor: SourceLike = None,
        cutpoints: SourceLike = None,
        *,
        given: str | Sequence[str] | None = None,
        network: SourceLike = None,
    ):
        sources = {"predictor": predictor, "cutpoints": cutpoints}
        super().__init__(event, sources, given=given, network=network)
        self.levels = whole("levels", levels, least=2)

    def raw_shape(self, parameter: str) -> torch.Size:
        return self.shape if parameter == "predictor" else torch.Size((*self.shape, self.levels - 1))

    def start(self, parameter: str) -> Tensor:
        if parameter == "predictor":
            return torch.zeros(self.shape)
        # Levels are about equally probable where the predictor is 0.
        even = torch.logit(torch.arange(1, self.levels) / self.levels)
        return self.to_raw(parameter, even).expand(self.raw_shape(parameter)).clone()

    def distribution(self, predictor: Tensor, cutpoints: Tensor) -> Distribution:
        return ordered_logistic(predictor, cutpoints).to_event(len(self.shape))
