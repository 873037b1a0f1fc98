"""log p(x) of rows by importance sampling, annealing and closed forms, and the gap between it and a bound."""
