"""Sources: where the parameters of a factor come from."""

from pyro_lfm.sources import parameter_priors

__all__ = ["parameter_priors"]
