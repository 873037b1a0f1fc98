"""Tables with missing entries and mixtures fitted by exact inference and by its rivals, for ``benchmark_exact.py``."""
