"""Factors: declarations of conditional distributions, and the modules that models and guides build from them."""

from pyro_lfm.factors.conditional import Conditional, Deterministic, Seen
from pyro_lfm.factors.covariate import Covariate
from pyro_lfm.factors.factor import Factor
from pyro_lfm.factors.named_modules import Factors, key_of, name_of
from pyro_lfm.factors.of_guide import Encoder, MadeOfGuide, PriorOfGuide
from pyro_lfm.factors.per_group import PerGroup
from pyro_lfm.factors.prior import Prior

__all__ = [
    "Conditional",
    "Covariate",
    "Deterministic",
    "Encoder",
    "Factor",
    "Factors",
    "MadeOfGuide",
    "PerGroup",
    "Prior",
    "PriorOfGuide",
    "Seen",
    "key_of",
    "name_of",
]
