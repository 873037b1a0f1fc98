"""Exact inference in closed form, float64, one pass over the rows per iteration: the reference for all the rest."""
