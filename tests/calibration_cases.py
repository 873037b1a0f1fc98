"""Rows, models and guides that the tests of calibration share."""

import torch

import pyro_lfm as lfm

# lfm.evaluate.diagnose is the function, and so are others of the folder.
NOISE = 0.7


FEW = {"rows": 200, "draws": 39, "replicates": 139, "weights": 50}


def linear(alike=0.0):
    """x | z ~ N(W z, NOISE² I). A larger ``alike`` makes factors more correlated given x."""
    weight = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double() + alike
    mean = lfm.Linear(weight=lfm.Fixed(weight), bias=lfm.Fixed(0.0))
    noise = lfm.Isotropic(lfm.Fixed(NOISE**2))
    return lfm.Model(z=lfm.StandardNormal(3), x=lfm.Gaussian(5, mean=mean, covariance=noise)).double()


def weight_of(model):
    return model.factors["x"](torch.eye(3).double()).mean.T
