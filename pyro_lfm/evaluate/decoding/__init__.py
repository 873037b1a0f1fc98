"""The effect of the factors on the observed variables, through any decoder: loadings, variance explained."""
