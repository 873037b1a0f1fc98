"""Deep latent factor models, declared in a few lines and fitted by variational inference on Pyro."""

from pyro_lfm import data, plots, testing
from pyro_lfm.data import Batch
from pyro_lfm.describe import describe
from pyro_lfm.distributions.covariances import Covariance, Diagonal, Full, Isotropic, LowRank
from pyro_lfm.distributions.horseshoe import Horseshoe
from pyro_lfm.distributions.lookup import Lookup
from pyro_lfm.distributions.parameter_priors import (
    ARD,
    Beta,
    Dirichlet,
    Gamma,
    Normal,
    NormalGamma,
    NormalWishart,
)
from pyro_lfm.distributions.sources import Fixed, Learned, Linear, PerRow
from pyro_lfm.errors import DataError, DeclarationError, ScaleFloorWarning, ShapeError, TrainingError
from pyro_lfm.factors import Covariate, Factor, Prior
from pyro_lfm.families import (
    Bernoulli,
    BetaFactor,
    Binomial,
    Categorical,
    ContinuousBernoulli,
    DirichletFactor,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    GammaFactor,
    Gaussian,
    Laplace,
    LogisticNormal,
    LogNormal,
    MixtureOfGaussians,
    NegativeBinomial,
    OrderedLogistic,
    Poisson,
    StudentT,
    ZeroInflatedNegativeBinomial,
    ZeroInflatedPoisson,
)
from pyro_lfm.guides import ExactPosterior, FactorisedPosterior, Guide, PyroGuide
from pyro_lfm.inference import EM, SVI, Fit, VariationalBayes, VariationalEM, fit
from pyro_lfm.model import Model, PyroModel
from pyro_lfm.networks import MLP, Convolutional
from pyro_lfm.objectives import ELBO
from pyro_lfm.priors import FlowPrior, StandardNormal

__all__ = [
    "ARD",
    "ELBO",
    "EM",
    "MLP",
    "SVI",
    "Batch",
    "Bernoulli",
    "Beta",
    "BetaFactor",
    "Binomial",
    "Categorical",
    "ContinuousBernoulli",
    "Convolutional",
    "Covariance",
    "Covariate",
    "DataError",
    "DeclarationError",
    "Diagonal",
    "Dirichlet",
    "DirichletFactor",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "ExactPosterior",
    "Factor",
    "FactorisedPosterior",
    "Fit",
    "Fixed",
    "FlowPrior",
    "Full",
    "Gamma",
    "GammaFactor",
    "Gaussian",
    "Guide",
    "Horseshoe",
    "Isotropic",
    "Laplace",
    "Learned",
    "Linear",
    "LogNormal",
    "LogisticNormal",
    "Lookup",
    "LowRank",
    "MixtureOfGaussians",
    "Model",
    "NegativeBinomial",
    "Normal",
    "NormalGamma",
    "NormalWishart",
    "OrderedLogistic",
    "PerRow",
    "Poisson",
    "Prior",
    "PyroGuide",
    "PyroModel",
    "ScaleFloorWarning",
    "ShapeError",
    "StandardNormal",
    "StudentT",
    "TrainingError",
    "VariationalBayes",
    "VariationalEM",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedPoisson",
    "data",
    "describe",
    "fit",
    "plots",
    "testing",
]
