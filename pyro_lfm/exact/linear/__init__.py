"""Exact inference in linear Gaussian models: EM, variational EM and variational Bayes."""
