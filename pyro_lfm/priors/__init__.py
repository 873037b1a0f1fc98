"""Priors p(z) that are not families: standard normal, flow, Gaussian process, and priors computed from the guide."""

from pyro_lfm.priors.exemplar import ExemplarPrior
from pyro_lfm.priors.flow_prior import FlowPrior
from pyro_lfm.priors.gaussian_process import GaussianProcess
from pyro_lfm.priors.kernels import SquaredExponential
from pyro_lfm.priors.standard import StandardNormal
from pyro_lfm.priors.vamp import VampPrior

__all__ = [
    "ExemplarPrior",
    "FlowPrior",
    "GaussianProcess",
    "SquaredExponential",
    "StandardNormal",
    "VampPrior",
]
