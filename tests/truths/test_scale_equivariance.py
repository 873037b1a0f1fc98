"""Answers do not depend on the units of the data: x → c x only changes ln p(x) by −D ln c, also column by column."""

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris

import pyro_lfm as lfm

X = torch.from_numpy(load_iris().data)
D = X.shape[1]
SCALES = [1e-6, 1e-3, 1e6]
BY_COLUMN = torch.tensor([1e-6, 1e3, 1.0, 1e6], dtype=torch.float64)


def linear(covariance):
    return lambda: lfm.Model(
        z=lfm.StandardNormal(1), x=lfm.Gaussian(D, mean=lfm.Linear(), covariance=covariance())
    )


def mixture(covariance):
    spread = covariance(lfm.Lookup())
    x = lfm.Gaussian(D, mean=lfm.Lookup(), covariance=spread, given="c")
    return lambda: lfm.Model(c=lfm.Categorical(2), x=x)


def analysers():
    x = lfm.Gaussian(D, mean=lfm.Lookup(lfm.Linear()), given=("c", "z"))
    return lfm.Model(c=lfm.Categorical(2), z=lfm.StandardNormal(1), x=x)


def bayesian(covariance):
    x = lfm.Gaussian(
        D,
        mean=lfm.Linear(prior=lfm.parameter_priors.ARD()),
        covariance=covariance(prior=lfm.parameter_priors.Gamma()),
    )
    return lambda: lfm.Model(z=lfm.StandardNormal(3), x=x)


def bayesian_mixture(covariance, prior):
    spread = covariance(lfm.Lookup())
    x = lfm.Gaussian(D, mean=lfm.Lookup(), covariance=spread, prior=prior(), given="c")
    return lambda: lfm.Model(c=lfm.Categorical(3, prior=lfm.parameter_priors.Dirichlet()), x=x)


EVERY = {
    "PCA": (linear(lfm.Isotropic), lfm.EM(), False),
    "factor analysis": (linear(lfm.Diagonal), lfm.EM(restarts=3), True),
    "variational EM": (linear(lfm.Diagonal), lfm.VariationalEM(restarts=3), True),
    "isotropic mixture": (mixture(lfm.Isotropic), lfm.EM(restarts=2), False),
    "diagonal mixture": (mixture(lfm.Diagonal), lfm.EM(restarts=2), True),
    "full mixture": (mixture(lfm.Full), lfm.EM(restarts=2), True),
    "factor analysers": (analysers, lfm.EM(restarts=1, iterations=20), True),
    "one Gaussian": (lambda: lfm.Model(x=lfm.Gaussian(D, covariance=lfm.Full())), lfm.EM(), True),
    "Bayesian PCA": (bayesian(lfm.Isotropic), lfm.VariationalBayes(), False),
    "Bayesian factor analysis": (bayesian(lfm.Diagonal), lfm.VariationalBayes(), True),
    "Bayesian mixture, diagonal": (
        bayesian_mixture(lfm.Diagonal, lfm.parameter_priors.NormalGamma),
        lfm.VariationalBayes(iterations=50),
        True,
    ),
    "Bayesian mixture, full": (
        bayesian_mixture(lfm.Full, lfm.parameter_priors.NormalWishart),
        lfm.VariationalBayes(iterations=50),
        True,
    ),
}


def bound_per_row(make, inference, scale):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lfm.ConvergenceWarning)
        warnings.simplefilter("ignore", lfm.ScaleFloorWarning)
        fit = lfm.fit(make().double(), X * scale, inference, seed=0, progress=False)
    return fit.history[-1]["bound"] + float(torch.as_tensor(scale, dtype=torch.float64).expand(D).log().sum())


@pytest.mark.parametrize("name", EVERY)
def test_exact_inference_is_equivariant(name):
    make, inference, by_column = EVERY[name]
    expected = bound_per_row(make, inference, 1.0)
    for scale in [*SCALES, *[BY_COLUMN] * by_column]:
        assert abs(bound_per_row(make, inference, scale) - expected) < 1e-6


def test_pca_of_tiny_data_is_exact_and_not_on_a_floor():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(
        rng.normal(size=(300, 2)) @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(size=(300, 6))
    )
    x = x * 1e-5
    values = torch.linalg.eigvalsh(torch.cov(x.mT, correction=0)).flip(0)
    rest = values[2:].mean()
    exact = -0.5 * float(6 * math.log(2 * math.pi) + values[:2].log().sum() + 4 * rest.log() + 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = lfm.Model(
            z=lfm.StandardNormal(2), x=lfm.Gaussian(6, mean=lfm.Linear(), covariance=lfm.Isotropic())
        )
        fit = lfm.fit(model.double(), x, lfm.EM(), seed=0, progress=False)
    assert abs(float(fit.log_likelihood().mean()) - exact) < 1e-6


def test_a_min_scale_given_as_a_number_is_in_the_units_of_the_data():
    def fitted(**options):
        covariance = lfm.Isotropic(**options)
        x = lfm.Gaussian(D, mean=lfm.Linear(), covariance=covariance)
        model = lfm.Model(z=lfm.StandardNormal(1), x=x).double()
        return lfm.fit(model, X * 1e-5, lfm.EM(), seed=0, progress=False)

    with pytest.warns(lfm.ScaleFloorWarning, match="lower min_scale="):
        held = fitted(min_scale=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cured, default = fitted(min_scale=1e-9), fitted()
    assert torch.allclose(cured.log_likelihood(), default.log_likelihood(), atol=1e-6)
    assert float((cured.log_likelihood() - held.log_likelihood()).mean()) > 1


FAMILIES = [lfm.Gaussian, lfm.Laplace, lfm.StudentT, lfm.MixtureOfGaussians]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_floors_of_every_family_follow_the_data(family, scale):
    model = lfm.Model(z=lfm.StandardNormal(1), x=family(D, network=lfm.MLP(4))).double()
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    lfm.fit(model, X * scale, lfm.SVI(guide, steps=1, engine="eager"), seed=0, progress=False)
    factor = model.factors["x"]
    (parameter,) = factor.floors
    expected = 1e-3 * scale * X.std(0, correction=0)
    assert torch.allclose(factor.floor(parameter), expected, rtol=1e-6)
    # The floor of a latent does not change.
    assert torch.allclose(guide.factors["z"].floor("covariance"), torch.tensor(1e-3).double())
    # The floor is saved with the model.
    fresh = lfm.Model(z=lfm.StandardNormal(1), x=family(D, network=lfm.MLP(4))).double()
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh.factors["x"].floor(parameter), factor.floor(parameter))


def test_values_that_the_user_gave_are_not_moved_by_a_floor():
    fixed = lfm.Diagonal(lfm.Fixed(1e-14))
    learned = lfm.Diagonal(lfm.Learned(torch.full((D,), 4e-12)))
    for covariance, variance in ((fixed, 1e-14), (learned, 4e-12)):
        model = lfm.Model(
            z=lfm.StandardNormal(1), x=lfm.Gaussian(D, mean=lfm.Linear(), covariance=covariance)
        )
        model = model.double()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lfm.ConvergenceWarning)
            start = lfm.EM(start="model", iterations=0)
            lfm.fit(model, X * 1e-6, start, seed=0, progress=False)
        fitted_variance = model.factors["x"](torch.zeros(1, 1).double()).variance
        assert torch.allclose(fitted_variance, torch.tensor(variance).double(), rtol=1e-5)


def test_svi_warns_if_a_floor_decides_and_lowering_it_helps():
    def fitted(**options):
        x = lfm.Gaussian(D, mean=lfm.Fixed(X.mean(0)), covariance=lfm.Diagonal(**options))
        model = lfm.Model(x=x).double()
        inference = lfm.SVI(lfm.Guide(model), epochs=150, batch_size=150, learning_rate=0.1, engine="eager")
        return lfm.fit(model, X, inference, seed=0, progress=False)

    with pytest.warns(lfm.ScaleFloorWarning, match="lower min_scale="):
        held = fitted(min_scale=3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", lfm.ScaleFloorWarning)
        cured = fitted(min_scale=0.01)
    assert cured.history[-1]["bound"] > held.history[-1]["bound"] + 1
