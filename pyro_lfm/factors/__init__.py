"""Factors: conditional distributions p(value | parents), the one kind of part that models and guides are made of."""

from pyro_lfm.factors.covariate import Covariate
from pyro_lfm.factors.descriptions import source_words
from pyro_lfm.factors.factor import Factor, Prior
from pyro_lfm.factors.groups import PerGroup
from pyro_lfm.factors.named_modules import Factors, key_of, name_of
from pyro_lfm.factors.of_guide import Encoder, PriorOfGuide

__all__ = [
    "Covariate",
    "Encoder",
    "Factor",
    "Factors",
    "PerGroup",
    "Prior",
    "PriorOfGuide",
    "key_of",
    "name_of",
    "source_words",
]
