"""Families: factors with a standard distribution, for priors, likelihoods and guides."""

from pyro_lfm.families.bounded import Beta, ContinuousBernoulli, Dirichlet, LogisticNormal
from pyro_lfm.families.count_families import (
    NegativeBinomial,
    Poisson,
    ZeroInflatedNegativeBinomial,
    ZeroInflatedPoisson,
)
from pyro_lfm.families.flow_family import Flow, InverseAutoregressive, NeuralSpline, Zuko
from pyro_lfm.families.gaussian import Gaussian
from pyro_lfm.families.gaussian_message import GaussianMessage
from pyro_lfm.families.label_families import Bernoulli, Categorical, OrderedLogistic
from pyro_lfm.families.pixel_families import DiscretizedLogistic, DiscretizedLogisticMixture
from pyro_lfm.families.positive import Gamma, LogNormal
from pyro_lfm.families.product_of_experts import ProductOfExperts
from pyro_lfm.families.real import Laplace, MixtureOfGaussians, StudentT
from pyro_lfm.families.trials import Binomial, Multinomial

__all__ = [
    "Bernoulli",
    "Beta",
    "Binomial",
    "Categorical",
    "ContinuousBernoulli",
    "Dirichlet",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "Gamma",
    "Flow",
    "Gaussian",
    "InverseAutoregressive",
    "GaussianMessage",
    "Laplace",
    "LogNormal",
    "LogisticNormal",
    "MixtureOfGaussians",
    "Multinomial",
    "NegativeBinomial",
    "NeuralSpline",
    "OrderedLogistic",
    "Poisson",
    "ProductOfExperts",
    "StudentT",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedPoisson",
    "Zuko",
]
