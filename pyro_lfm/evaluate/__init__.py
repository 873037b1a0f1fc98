"""What can be said of a fitted model, each number with its error or its yardstick."""

from pyro_lfm.evaluate.alignment import Alignment, align
from pyro_lfm.evaluate.annealing import Annealing
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
from pyro_lfm.evaluate.disentangling import Disentanglement, disentanglement
from pyro_lfm.evaluate.gaps import Gaps, gaps
from pyro_lfm.evaluate.importance import DCI, dci
from pyro_lfm.evaluate.labels import FewLabels, few_labels
from pyro_lfm.evaluate.likelihood import LogLikelihood, log_likelihood
from pyro_lfm.evaluate.pareto import pareto_k, smoothed
from pyro_lfm.evaluate.sandwich import Sandwich, sandwich

__all__ = [
    "DCI",
    "Alignment",
    "Annealing",
    "Coverage",
    "Diagnosis",
    "Disentanglement",
    "FewLabels",
    "Gaps",
    "LogLikelihood",
    "PredictiveCheck",
    "Sandwich",
    "SimulationBasedCalibration",
    "TwoSample",
    "Uniformity",
    "VariationalCalibration",
    "align",
    "classifier_two_sample",
    "dci",
    "diagnose",
    "disentanglement",
    "expected_coverage",
    "few_labels",
    "gaps",
    "log_likelihood",
    "pareto_k",
    "predictive_check",
    "sandwich",
    "simulation_based_calibration",
    "smoothed",
    "tarp",
    "vsbc",
]
