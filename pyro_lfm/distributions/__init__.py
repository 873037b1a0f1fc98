"""Covariances, and closed-form divergences of the laws that torch does not register."""
