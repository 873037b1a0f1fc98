"""Documents: a fitted model as files that other programs read."""
