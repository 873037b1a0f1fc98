"""Evaluation of a fitted model, each number with its standard error or its reference value.

Every function here takes a ``Fit``, or a pair (model, guide). Functions of arrays stand in ``lfm.evaluate.calibration``
(truths, draws, weights) and ``lfm.evaluate.representation`` (codes).
"""

from pyro_lfm.evaluate import calibration, representation
from pyro_lfm.evaluate.decoding.factor_order import FactorOrder, factor_order
from pyro_lfm.evaluate.decoding.jacobian import Loadings, loadings
from pyro_lfm.evaluate.decoding.variance_shares import VarianceExplained, variance_explained
from pyro_lfm.evaluate.decomposition.nats import Decomposition, decompose
from pyro_lfm.evaluate.decomposition.rate_distortion import RateDistortion
from pyro_lfm.evaluate.diagnosis.report import Diagnosis, diagnose
from pyro_lfm.evaluate.imputation.hidden_entries import ImputationScores, imputation_scores
from pyro_lfm.evaluate.imputation.scores import LabelScores, NumberScores
from pyro_lfm.evaluate.likelihood.annealing import Annealing
from pyro_lfm.evaluate.likelihood.bounds_from_both_sides import Sandwich, sandwich
from pyro_lfm.evaluate.likelihood.estimate import LogLikelihood, log_likelihood
from pyro_lfm.evaluate.likelihood.inference_gaps import Gaps, gaps
from pyro_lfm.evaluate.representation.fits import align, disentanglement
from pyro_lfm.evaluate.representation.rivals import rival_representations

__all__ = [
    "Annealing",
    "Decomposition",
    "Diagnosis",
    "FactorOrder",
    "Gaps",
    "ImputationScores",
    "LabelScores",
    "Loadings",
    "LogLikelihood",
    "NumberScores",
    "RateDistortion",
    "Sandwich",
    "VarianceExplained",
    "align",
    "calibration",
    "decompose",
    "diagnose",
    "disentanglement",
    "factor_order",
    "gaps",
    "imputation_scores",
    "loadings",
    "log_likelihood",
    "representation",
    "rival_representations",
    "sandwich",
    "variance_explained",
]
