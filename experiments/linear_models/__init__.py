"""The parts of ``experiments/linear_theory.py``: the identities, and their pictures."""
