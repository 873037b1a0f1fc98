"""Deep latent factor models, declared in a few lines and fitted by variational inference on Pyro."""

from pyro_lfm import data, evaluate, plots, schedules, testing
from pyro_lfm.data import Batch
from pyro_lfm.describe import describe
from pyro_lfm.distributions.covariances import Covariance, Diagonal, Full, Isotropic, LowRank
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
from pyro_lfm.errors import (
    CompilationWarning,
    DataError,
    DeclarationError,
    ScaleFloorWarning,
    ShapeError,
    TrainingError,
)
from pyro_lfm.factors import Factor, Prior
from pyro_lfm.families import Bernoulli, Categorical, Gaussian, Poisson
from pyro_lfm.guides import ExactPosterior, FactorisedPosterior, Guide, PyroGuide
from pyro_lfm.inference import EM, SVI, Fit, VariationalBayes, VariationalEM, fit
from pyro_lfm.model import Model, PyroModel
from pyro_lfm.networks import MLP, Convolutional
from pyro_lfm.objectives import (
    ELBO,
    ImportanceWeightedELBO,
    MaximumMeanDiscrepancy,
    Objective,
    Penalised,
    Penalty,
    RenyiELBO,
    ReweightedWakeSleep,
    TotalCorrelation,
)
from pyro_lfm.optimizers import clipped
from pyro_lfm.priors import StandardNormal

__all__ = [
    "ARD",
    "ELBO",
    "EM",
    "MLP",
    "SVI",
    "Batch",
    "Bernoulli",
    "Beta",
    "Categorical",
    "CompilationWarning",
    "Convolutional",
    "Covariance",
    "DataError",
    "DeclarationError",
    "Diagonal",
    "Dirichlet",
    "ExactPosterior",
    "Factor",
    "FactorisedPosterior",
    "Fit",
    "Fixed",
    "Full",
    "Gamma",
    "Gaussian",
    "Guide",
    "ImportanceWeightedELBO",
    "Isotropic",
    "Learned",
    "Linear",
    "Lookup",
    "LowRank",
    "MaximumMeanDiscrepancy",
    "Model",
    "Normal",
    "NormalGamma",
    "NormalWishart",
    "Objective",
    "Penalised",
    "Penalty",
    "PerRow",
    "Poisson",
    "Prior",
    "PyroGuide",
    "PyroModel",
    "RenyiELBO",
    "ReweightedWakeSleep",
    "ScaleFloorWarning",
    "ShapeError",
    "StandardNormal",
    "TotalCorrelation",
    "TrainingError",
    "VariationalBayes",
    "VariationalEM",
    "clipped",
    "data",
    "describe",
    "evaluate",
    "fit",
    "plots",
    "schedules",
    "testing",
]
