"""Guides q(z | x): declared from factors, in closed form, refined row by row, or written by hand."""

from pyro_lfm.guides.any_guide import AnyGuide, PyroGuide, as_guide
from pyro_lfm.guides.exact import ExactPosterior, FactorisedPosterior
from pyro_lfm.guides.guide import Guide
from pyro_lfm.guides.refined import Refined

__all__ = ["AnyGuide", "ExactPosterior", "FactorisedPosterior", "Guide", "PyroGuide", "Refined", "as_guide"]
