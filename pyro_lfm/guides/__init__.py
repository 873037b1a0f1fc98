"""Guides q(z | x): declared from factors, or written by hand."""

from pyro_lfm.guides.exact import ExactPosterior, FactorisedPosterior
from pyro_lfm.guides.guide import Guide
from pyro_lfm.guides.program import AnyGuide, PyroGuide, as_guide

__all__ = ["AnyGuide", "ExactPosterior", "FactorisedPosterior", "Guide", "PyroGuide", "as_guide"]
