"""Questions to a fit about rows: posteriors of new rows, reconstructions, missing entries."""
