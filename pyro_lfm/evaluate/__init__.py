"""What can be said of a fitted model, each number with its error or its yardstick."""

from pyro_lfm.evaluate.calibration import (
    Coverage,
    Diagnosis,
    PredictiveCheck,
    SimulationBasedCalibration,
    TwoSample,
    Uniformity,
    VariationalCalibration,
    classifier_two_sample,
    diagnose,
    expected_coverage,
    predictive_check,
    simulation_based_calibration,
    tarp,
    vsbc,
)
from pyro_lfm.evaluate.decoding.explained import VarianceExplained, variance_explained
from pyro_lfm.evaluate.decoding.jacobian import Loadings, loadings
from pyro_lfm.evaluate.decomposition.nats import Decomposition, decompose
from pyro_lfm.evaluate.decomposition.rate_distortion import RateDistortion
from pyro_lfm.evaluate.imputation.hidden_entries import ImputationScores, imputation
from pyro_lfm.evaluate.imputation.scores import LabelScores, NumberScores
from pyro_lfm.evaluate.likelihood.annealing import Annealing
from pyro_lfm.evaluate.likelihood.bounds_from_both_sides import Sandwich, sandwich
from pyro_lfm.evaluate.likelihood.estimate import LogLikelihood, log_likelihood
from pyro_lfm.evaluate.likelihood.inference_gaps import Gaps, gaps
from pyro_lfm.evaluate.likelihood.pareto import pareto_k, smoothed
from pyro_lfm.evaluate.representation.alignment import Alignment, align
from pyro_lfm.evaluate.representation.disentangling import Disentanglement, disentanglement
from pyro_lfm.evaluate.representation.importance import DCI, dci
from pyro_lfm.evaluate.representation.labels import FewLabels, few_labels
from pyro_lfm.evaluate.representation.rivals import representations

__all__ = [
    "DCI",
    "Alignment",
    "Annealing",
    "Coverage",
    "Decomposition",
    "Diagnosis",
    "Disentanglement",
    "FewLabels",
    "Gaps",
    "ImputationScores",
    "LabelScores",
    "Loadings",
    "LogLikelihood",
    "NumberScores",
    "PredictiveCheck",
    "RateDistortion",
    "Sandwich",
    "SimulationBasedCalibration",
    "TwoSample",
    "Uniformity",
    "VarianceExplained",
    "VariationalCalibration",
    "align",
    "classifier_two_sample",
    "dci",
    "decompose",
    "diagnose",
    "disentanglement",
    "expected_coverage",
    "few_labels",
    "gaps",
    "imputation",
    "loadings",
    "log_likelihood",
    "pareto_k",
    "predictive_check",
    "representations",
    "sandwich",
    "simulation_based_calibration",
    "smoothed",
    "tarp",
    "variance_explained",
    "vsbc",
]
