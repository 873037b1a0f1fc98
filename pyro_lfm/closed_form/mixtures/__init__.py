"""Mixtures in closed form: of Gaussians, Bernoullis and factor analysers, baselines, Bayesian mixtures."""
