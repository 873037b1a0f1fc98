"""Scores of imputation: entries are hidden, filled in by ``fit.impute``, and compared with the truth."""
