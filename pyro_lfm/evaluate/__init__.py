"""What can be said of a fitted model, each number with its error."""

from pyro_lfm.evaluate.gaps import Gaps, gaps
from pyro_lfm.evaluate.likelihood import LogLikelihood, log_likelihood
from pyro_lfm.evaluate.pareto import pareto_k, smoothed

__all__ = ["Gaps", "LogLikelihood", "gaps", "log_likelihood", "pareto_k", "smoothed"]
