"""Distributions, divergences and maps onto supports that torch and Pyro lack, or compute with too few digits."""
