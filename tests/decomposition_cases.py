"""Linear models that the tests of decompositions share."""

import math

import torch

import pyro_lfm as lfm

# Two factors that matter, one that the data hardly know.
WEIGHT = torch.tensor([[1.2, -0.4, 0.01], [0.8, 0.9, 0.0], [-1.0, 0.5, 0.02], [0.3, -1.1, 0.0]])


def linear(rows, seed=0, weight=WEIGHT):
    """A linear Gaussian model with noise of variance 1, its exact posterior, and rows drawn from it."""
    mean = lfm.Linear(weight=lfm.Fixed(weight), bias=lfm.Fixed(torch.zeros(len(weight))))
    noise = lfm.Isotropic(lfm.Fixed(1.0))
    x = lfm.Gaussian(len(weight), mean=mean, covariance=noise)
    model = lfm.Model(z=lfm.StandardNormal(weight.shape[1]), x=x).double()
    return model, lfm.ExactPosterior(model), model.sample(rows, seed=seed)["x"]


def tempered(x, beta, weight=WEIGHT):
    """R and D of the tempered posterior, its covariance and means, in closed form."""
    w = weight.double()
    precision = torch.eye(w.shape[1]).double() + beta * w.T @ w
    covariance = precision.inverse()
    mean = beta * x @ w @ covariance
    rate = 0.5 * (covariance.trace() + mean.square().sum(1) - w.shape[1] + precision.logdet())
    residual = (x - mean @ w.T).square().sum(1) + (w @ covariance @ w.T).trace()
    return rate, 0.5 * (residual + len(w) * math.log(2 * math.pi)), covariance, mean
