"""Pyro programs: models, and the base class of models and guides."""
