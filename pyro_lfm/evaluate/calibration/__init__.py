"""Tests of arrays with exact nulls: ranks and coverage of truths among draws, replicates, importance weights.

Every function here takes arrays. Functions that take a fit stand in ``lfm.evaluate``.
"""

from pyro_lfm.evaluate.calibration.coverage import Coverage, expected_coverage, tarp
from pyro_lfm.evaluate.calibration.pareto import pareto_k, pareto_smooth
from pyro_lfm.evaluate.calibration.predictive import PredictiveCheck, predictive_check
from pyro_lfm.evaluate.calibration.ranks import (
    SimulationBasedCalibration,
    VariationalCalibration,
    simulation_based_calibration,
    variational_calibration,
)
from pyro_lfm.evaluate.calibration.two_sample import TwoSample, classifier_two_sample
from pyro_lfm.evaluate.calibration.uniformity import Uniformity

__all__ = [
    "Coverage",
    "PredictiveCheck",
    "SimulationBasedCalibration",
    "TwoSample",
    "Uniformity",
    "VariationalCalibration",
    "classifier_two_sample",
    "expected_coverage",
    "pareto_k",
    "pareto_smooth",
    "predictive_check",
    "simulation_based_calibration",
    "tarp",
    "variational_calibration",
]
