"""Exact inference as mathematics: parameters and data in, parameters and history out. Knows nothing of models."""
