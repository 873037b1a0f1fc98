"""Exact inference as mathematics: parameters and rows in, parameters and history out. Knows nothing of models."""
