"""Mixtures: EM and variational Bayes."""
