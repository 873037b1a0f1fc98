"""Covariances, sources of parameters, closed-form divergences, and the laws that torch lacks."""
