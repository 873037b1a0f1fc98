"""Factor analysis as analysts know it: rotated loadings, communalities, indices of fit, scores, the number of factors."""

from pyro_lfm.factor_analysis.rotation import Rotation, rotate

__all__ = ["Rotation", "rotate"]
