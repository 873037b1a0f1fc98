"""Exact inference in mixtures: EM and variational Bayes."""
