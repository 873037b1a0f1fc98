"""Annealed importance sampling: log p(x) by chains from the guide to the posterior, and for simulated rows back."""

from pyro_lfm.evaluate.likelihood.annealing.chains import Annealing, anneal

__all__ = ["Annealing", "anneal"]
