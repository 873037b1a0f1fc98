"""Pyro programs: models, and the base that models and guides share."""
