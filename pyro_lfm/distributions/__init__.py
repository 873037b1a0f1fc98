"""Covariances, sources of parameters, closed-form divergences, and the distributions that torch lacks."""
