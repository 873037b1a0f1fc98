"""Inference in closed form, by forms that ``closed_form`` recognises: EM, variational EM and variational Bayes."""
