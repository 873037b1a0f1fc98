"""Linear Gaussian models in closed form: maximum likelihood, factorised posteriors, Bayesian factor analysis."""
