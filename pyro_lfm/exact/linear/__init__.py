"""Linear Gaussian models: EM, variational EM and variational Bayes."""
