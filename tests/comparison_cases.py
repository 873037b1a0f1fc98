"""Models, candidates and options that the tests of comparisons share."""

import torch

import pyro_lfm as lfm

QUICK = {"progress": False, "epochs": 2, "draws": 30}


def fixed_model():
    """A linear Gaussian model without parameters to learn, with factors that are strongly correlated given x."""
    torch.manual_seed(0)
    weight = 0.5 * torch.randn(5, 3) + torch.tensor([[0.7], [-0.7], [0.7], [0.7], [-0.7]])
    mean = lfm.Linear(weight=lfm.Fixed(weight), bias=lfm.Fixed(torch.randn(5)))
    noise = lfm.Isotropic(lfm.Fixed(1.0))
    return lfm.Model(z=lfm.StandardNormal(3), x=lfm.Gaussian(5, mean=mean, covariance=noise)).double()


def small(rows=60):
    torch.manual_seed(0)
    model = lfm.Model(
        z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear(), covariance=lfm.Isotropic())
    )
    return model, torch.randn(rows, 2) @ torch.randn(2, 4) + 0.3 * torch.randn(rows, 4)


def guides():
    encoder = lfm.MLP(8)
    return {
        "mean-field": lfm.Gaussian(network=encoder),
        "full": lfm.Gaussian(covariance=lfm.Full(), network=encoder),
    }


def state_of(*programs):
    return [value.clone() for program in programs for value in program.state_dict().values()]


def same(one, other):
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
