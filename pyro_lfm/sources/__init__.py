"""Sources of the parameters of a factor: networks, constants, tables, covariances and priors of parameters."""

from pyro_lfm.sources import parameter_priors

__all__ = ["parameter_priors"]
