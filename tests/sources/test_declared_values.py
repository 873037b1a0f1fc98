"""Values that the user declared have all their digits in a model that is converted to float64 later."""

import numpy as np
import pytest
import torch

import pyro_lfm as lfm

ROWS = torch.randn(30, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def _model(mean=None, covariance=None, **factors):
    likelihood = lfm.Gaussian(2, mean=mean or lfm.Linear(), covariance=covariance)
    return lfm.Model(**factors or {"z": lfm.StandardNormal(1)}, x=likelihood)


@pytest.mark.parametrize("kind", [lfm.Fixed, lfm.Learned])
@pytest.mark.parametrize(
    "value",
    [0.1, np.array([0.1, 0.1]), torch.tensor(0.1, dtype=torch.float64)],
    ids=["number", "array", "tensor"],
)
@pytest.mark.parametrize("structure", [lfm.Diagonal, lfm.Isotropic, lfm.Full])
def test_a_covariance(kind, value, structure):
    if structure is lfm.Isotropic and np.ndim(value):
        value = 0.1
    if structure is lfm.Full:
        value = 0.1 * np.eye(2)
    model = _model(covariance=structure(kind(value))).double()
    variance = model.factors["x"](torch.zeros(1, 1).double()).variance
    torch.testing.assert_close(variance, torch.full_like(variance, 0.1), rtol=1e-14, atol=0)


@pytest.mark.parametrize("source", [lfm.Fixed(0.1), lfm.Learned(0.1)], ids=["fixed", "learned"])
def test_a_mean_and_a_lookup(source):
    assert _model(lfm.Linear(bias=source)).double().factors["x"].parts[
        "mean"
    ].network.bias.value.tolist() == [
        0.1,
        0.1,
    ]
    of_category = _model(lfm.Lookup(source), c=lfm.Categorical(3)).double().factors["x"]
    assert of_category(torch.tensor([2])).mean.tolist() == [[0.1, 0.1]]


def test_a_floor_and_its_measured_successor():
    model = _model(covariance=lfm.Diagonal(lfm.Learned(0.1), min_scale=0.05)).double()
    assert model.factors["x"].covariance_floor.tolist() == [0.05, 0.05]
    # A fit measures the default floor. The declared variance stays, and redrawing the first weights keeps its digits.
    model = _model(lfm.Linear(weight=lfm.Fixed(0.0)), lfm.Diagonal(lfm.Learned(0.1))).double()
    svi = lfm.SVI(lfm.Guide(model, z=lfm.Gaussian()), steps=1, learning_rate=1e-300, engine="eager")
    fit = lfm.fit(model, ROWS, svi, seed=0, progress=False)
    variance = fit.model.factors["x"](torch.zeros(1, 1).double()).variance
    torch.testing.assert_close(variance, torch.full_like(variance, 0.1), rtol=1e-14, atol=0)


def test_a_kernel_and_a_code():
    kernel = lfm.SquaredExponential(0.1).build().double()
    assert kernel.lengthscale.item() == pytest.approx(0.1, rel=1e-15)
    process = lfm.GaussianProcess(1, inducing=[0.1, 0.2], given="t")
    built = lfm.Model(t=lfm.Covariate(), z=process, x=lfm.Gaussian(2, mean=lfm.Linear(), given="z")).double()
    assert built.factors["z"].points.value.flatten().tolist() == [0.1, 0.2]


def test_a_value_that_has_moved_keeps_the_new_one():
    model = _model(lfm.Linear(bias=lfm.Learned(0.1)))
    bias = model.factors["x"].parts["mean"].network.bias
    with torch.no_grad():
        bias.value += 1
    moved = bias.value.double()
    assert torch.equal(model.double().factors["x"].parts["mean"].network.bias.value, moved)
    assert (
        _model(lfm.Linear(bias=lfm.Learned(0.1)))
        .half()
        .double()
        .factors["x"]
        .parts["mean"]
        .network.bias.value[0]
        == 0.1
    )
