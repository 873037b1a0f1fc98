"""Families: factors whose law is one of the field's standard distributions."""

from pyro_lfm.families.bounded import BetaFactor, ContinuousBernoulli, DirichletFactor, LogisticNormal
from pyro_lfm.families.counts import (
    Binomial,
    NegativeBinomial,
    Poisson,
    ZeroInflatedNegativeBinomial,
    ZeroInflatedPoisson,
)
from pyro_lfm.families.gaussian import Gaussian
from pyro_lfm.families.images import DiscretizedLogistic, DiscretizedLogisticMixture
from pyro_lfm.families.labels import Bernoulli, Categorical, OrderedLogistic
from pyro_lfm.families.positive import GammaFactor, LogNormal
from pyro_lfm.families.product import ProductOfExperts
from pyro_lfm.families.real import Laplace, MixtureOfGaussians, StudentT

__all__ = [
    "Bernoulli",
    "BetaFactor",
    "Binomial",
    "Categorical",
    "ContinuousBernoulli",
    "DirichletFactor",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "GammaFactor",
    "Gaussian",
    "Laplace",
    "LogNormal",
    "LogisticNormal",
    "MixtureOfGaussians",
    "NegativeBinomial",
    "OrderedLogistic",
    "Poisson",
    "ProductOfExperts",
    "StudentT",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedPoisson",
]
