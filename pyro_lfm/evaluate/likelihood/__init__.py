"""log p(x) of rows, and how far a bound is below it."""
