"""Priors p(z)."""

from pyro_lfm.priors.standard import StandardNormal

__all__ = ["StandardNormal"]
