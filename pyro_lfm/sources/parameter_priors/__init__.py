"""Priors of parameters, given with the source of the parameter: ``lfm.parameter_priors``."""

from pyro_lfm.sources.parameter_priors.horseshoe import Horseshoe
from pyro_lfm.sources.parameter_priors.independent import ARD, Beta, Dirichlet, Gamma, Normal
from pyro_lfm.sources.parameter_priors.joint import NormalGamma, NormalWishart

__all__ = ["ARD", "Beta", "Dirichlet", "Gamma", "Horseshoe", "Normal", "NormalGamma", "NormalWishart"]
