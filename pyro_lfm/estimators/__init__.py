"""scikit-learn estimators: the library's models with fit, transform, predict and score, for pipelines and searches."""

from pyro_lfm.estimators.any_model import LatentModel
from pyro_lfm.estimators.classifier import SemiSupervisedClassifier
from pyro_lfm.estimators.clustering import LatentClustering
from pyro_lfm.estimators.deep_factors import DeepFactorAnalysis
from pyro_lfm.estimators.gaussian_factors import FactorAnalysis
from pyro_lfm.estimators.imputation.factor_mixture import FactorMixture
from pyro_lfm.estimators.latent_imputer import LatentImputer

__all__ = [
    "DeepFactorAnalysis",
    "FactorAnalysis",
    "FactorMixture",
    "LatentClustering",
    "LatentImputer",
    "LatentModel",
    "SemiSupervisedClassifier",
]
