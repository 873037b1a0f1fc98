"""Factor analysis as analysts know it: rotated loadings, communalities, indices of fit, scores, the number of factors.

``solution`` takes a fit, and ``number_of_factors`` rows. ``rotate``, ``fit_indices`` and ``score_weights`` take loadings
and uniquenesses, wherever they are from.
"""

from pyro_lfm.factor_analysis.factor_numbers import FactorNumbers, number_of_factors
from pyro_lfm.factor_analysis.factor_scores import score_weights
from pyro_lfm.factor_analysis.factor_solution import FactorSolution, solution
from pyro_lfm.factor_analysis.indices_of_fit import FitIndices, fit_indices
from pyro_lfm.factor_analysis.rotation import Rotation, rotate

__all__ = [
    "FactorNumbers",
    "FactorSolution",
    "FitIndices",
    "Rotation",
    "fit_indices",
    "number_of_factors",
    "rotate",
    "score_weights",
    "solution",
]
