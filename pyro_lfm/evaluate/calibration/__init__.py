"""Is q(z | x) the posterior, and does the model fit? Tests with exact nulls, of arrays and of fits."""

from pyro_lfm.evaluate.calibration.coverage import Coverage, expected_coverage, tarp
from pyro_lfm.evaluate.calibration.diagnosis import Diagnosis, diagnose
from pyro_lfm.evaluate.calibration.predictive import PredictiveCheck, predictive_check
from pyro_lfm.evaluate.calibration.ranks import (
    SimulationBasedCalibration,
    VariationalCalibration,
    simulation_based_calibration,
    vsbc,
)
from pyro_lfm.evaluate.calibration.two_sample import TwoSample, classifier_two_sample
from pyro_lfm.evaluate.calibration.uniformity import Uniformity

__all__ = [
    "Coverage",
    "Diagnosis",
    "PredictiveCheck",
    "SimulationBasedCalibration",
    "TwoSample",
    "Uniformity",
    "VariationalCalibration",
    "classifier_two_sample",
    "diagnose",
    "expected_coverage",
    "predictive_check",
    "simulation_based_calibration",
    "tarp",
    "vsbc",
]
