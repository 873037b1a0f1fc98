"""Queries of a trained autoencoder by pyro_lfm, by hand in PyTorch and in JAX, for ``benchmark_evaluation.py``."""
