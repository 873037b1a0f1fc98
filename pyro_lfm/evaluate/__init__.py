"""What can be said of a fitted model, each number with its error."""

from pyro_lfm.evaluate.likelihood import LogLikelihood, log_likelihood

__all__ = ["LogLikelihood", "log_likelihood"]
