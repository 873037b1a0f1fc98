"""Engines: one optimisation step at a time, in eager, compiled, or by Pyro."""
