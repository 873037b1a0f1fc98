"""Default priors do not depend on the units or origin of the data. Numbers that decide instead of the data are warned of."""

import math
import warnings

import pytest
import torch

import pyro_lfm as lfm


def factors(scale=1.0, offset=0.0):
    g = torch.Generator().manual_seed(0)
    signal = torch.randn(200, 2, generator=g).double() @ torch.randn(2, 6, generator=g).double()
    return offset + scale * (signal + 0.3 * torch.randn(200, 6, generator=g).double())


def clusters(scale=1.0, offset=0.0):
    g = torch.Generator().manual_seed(1)
    means = 4 * torch.randn(3, 1, 4, generator=g).double()
    return offset + scale * (means + torch.randn(3, 60, 4, generator=g).double()).flatten(0, 1)


def linear(noise=None, weights=None, bias=None, covariance=lfm.Isotropic):
    mean = lfm.Linear(prior=weights or lfm.parameter_priors.ARD(), bias=bias)
    spread = covariance(prior=noise or lfm.parameter_priors.Gamma())
    return lfm.Model(z=lfm.StandardNormal(3), x=lfm.Gaussian(6, mean=mean, covariance=spread)).double()


def mixture(prior):
    covariance = (lfm.Full if isinstance(prior, lfm.parameter_priors.NormalWishart) else lfm.Diagonal)(
        lfm.Lookup()
    )
    x = lfm.Gaussian(4, mean=lfm.Lookup(), covariance=covariance, prior=prior, given="c")
    return lfm.Model(c=lfm.Categorical(3, prior=lfm.parameter_priors.Dirichlet()), x=x).double()


def by_closed_form(model, x):
    return lfm.fit(model, x, lfm.VariationalBayes(iterations=400), seed=0, progress=False)


def by_gradients(model, x):
    latent = {"z": lfm.Gaussian()} if "z" in model.factors else {"c": lfm.Categorical(network=lfm.MLP(4))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lfm.DataScaleWarning)
        guide = lfm.Guide(model, **latent)
        return lfm.fit(model, x, lfm.SVI(guide, steps=1), seed=0, progress=False)


DEFAULTS = {
    "PCA": (lambda: linear(), factors),
    "factor analysis": (lambda: linear(covariance=lfm.Diagonal), factors),
    "diagonal mixture": (lambda: mixture(lfm.parameter_priors.NormalGamma()), clusters),
    "full mixture": (lambda: mixture(lfm.parameter_priors.NormalWishart()), clusters),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_bounds_under_default_priors_do_not_depend_on_origin_or_units(name):
    make, rows = DEFAULTS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error", lfm.PriorWarning)
        reference = by_closed_form(make(), rows())
        for scale, offset in ((1.0, 1e6), (1e-3, 7.0), (1e4, -1e4)):
            transformed = by_closed_form(make(), rows(scale, offset))
            bound = transformed.history[-1]["bound"] + rows().shape[1] * math.log(scale)
            assert bound == pytest.approx(reference.history[-1]["bound"], abs=1e-6)


# {case: (declaration with numbers that decide, rows, the prior that the warning names)}.
DECIDE = {
    "noise": (
        lambda: linear(lfm.parameter_priors.Gamma(1e-3, 1e-3)),
        factors(1e-4),
        "lfm.parameter_priors.Gamma",
    ),
    "noise by column": (
        lambda: linear(lfm.parameter_priors.Gamma(1.0, torch.ones(6)), covariance=lfm.Diagonal),
        factors(1e-3),
        "lfm.parameter_priors.Gamma",
    ),
    "relevance": (
        lambda: linear(weights=lfm.parameter_priors.ARD(1.0, 1.0)),
        factors(1e-2),
        "lfm.parameter_priors.ARD",
    ),
    "bias far away": (
        lambda: linear(bias=lfm.parameter_priors.Normal(0.0, 1.0)),
        factors(1.0, 1e4),
        "lfm.parameter_priors.Normal",
    ),
    "narrow bias": (
        lambda: linear(bias=lfm.parameter_priors.Normal(scale=1e-3)),
        factors(),
        "lfm.parameter_priors.Normal",
    ),
    "rate": (
        lambda: mixture(lfm.parameter_priors.NormalGamma(rate=1.0)),
        clusters(1e-3),
        "lfm.parameter_priors.NormalGamma",
    ),
    "mean": (
        lambda: mixture(lfm.parameter_priors.NormalGamma(mean=0.0)),
        clusters(1.0, 300.0),
        "lfm.parameter_priors.NormalGamma",
    ),
    "covariance": (
        lambda: mixture(lfm.parameter_priors.NormalWishart(covariance=torch.eye(4))),
        clusters(1e-2),
        "lfm.parameter_priors.NormalWishart",
    ),
    "mean of a full one": (
        lambda: mixture(lfm.parameter_priors.NormalWishart(mean=torch.zeros(4))),
        clusters(1.0, 300.0),
        "lfm.parameter_priors.NormalWishart",
    ),
}


@pytest.mark.parametrize("inference", [by_closed_form, by_gradients])
@pytest.mark.parametrize("name", DECIDE)
def test_a_prior_that_decides_is_warned_of_once_with_a_remedy(name, inference):
    make, rows, prior = DECIDE[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        inference(make(), rows)
    (warning,) = [str(one.message) for one in caught if one.category is lfm.PriorWarning]
    assert prior + " decide, not the data" in warning and f"as in {prior}()" in warning


def test_a_noise_prior_that_outweighs_only_the_residuals_is_warned_of():
    with pytest.warns(lfm.PriorWarning, match="half a sum of squares") as caught:
        by_closed_form(linear(lfm.parameter_priors.Gamma(1e-3, 20.0)), factors())
    assert len(caught) == 1


@pytest.mark.parametrize("inference", [by_closed_form, by_gradients])
def test_numbers_that_fit_the_data_raise_no_warning(inference):
    x = (factors() - factors().mean(0)) / factors().std(0)
    y = (clusters() - clusters().mean(0)) / clusters().std(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", lfm.PriorWarning)
        inference(
            linear(
                lfm.parameter_priors.Gamma(1.0, 1.0),
                lfm.parameter_priors.ARD(1e-3, 1e-3),
                lfm.parameter_priors.Normal(0.0, 1.0),
            ),
            x,
        )
        inference(mixture(lfm.parameter_priors.NormalGamma(mean=0.0, rate=1.0)), y)
        inference(mixture(lfm.parameter_priors.NormalWishart(mean=0.0, covariance=0.5)), y)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e6])
def test_the_remedy_works(scale):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert by_closed_form(linear(), factors(scale)).rank == 2


def test_the_origin_is_saved_with_the_model():
    model = linear()
    by_closed_form(model, factors(1.0, 50.0))
    other = linear()
    other.load_state_dict(model.state_dict())
    bias = other.factors["x"].drawn["bias"].prior({}).base_dist
    torch.testing.assert_close(bias.loc, factors(1.0, 50.0).mean(0))


def test_svi_of_a_bayesian_declaration_on_standardised_rows_is_silent():
    x = (factors() - factors().mean(0)) / factors().std(0)
    model = linear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lfm.fit(model, x, lfm.SVI(lfm.Guide(model, z=lfm.Gaussian()), steps=1), seed=0, progress=False)
