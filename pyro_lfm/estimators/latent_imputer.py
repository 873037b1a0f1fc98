"""``LatentImputer``, missing cells of a table filled in by factor models, as an estimator."""
