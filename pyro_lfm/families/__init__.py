"""Families: factors whose law is one of the field's standard distributions."""

from pyro_lfm.families.counts import Poisson
from pyro_lfm.families.gaussian import Gaussian
from pyro_lfm.families.labels import Bernoulli, Categorical

__all__ = ["Bernoulli", "Categorical", "Gaussian", "Poisson"]
