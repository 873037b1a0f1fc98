"""Inference in closed form: EM, variational EM and variational Bayes."""
