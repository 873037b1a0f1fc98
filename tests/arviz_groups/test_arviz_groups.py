"""What ``fit.to_arviz`` gives, read by ArviZ's own functions and compared with the fit's answers."""

import sys
import warnings

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from torch.distributions import constraints

import pyro_lfm as lfm
from pyro_lfm import parameter_priors as priors
from pyro_lfm.errors import DataError, DeclarationError

matplotlib.use("agg")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it announces its next version
    import arviz as az

ROWS = 25


def _frame() -> pd.DataFrame:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 2, generator=g) @ torch.randn(2, 4, generator=g)
    x = x + 0.5 * torch.randn(ROWS, 4, generator=g)
    frame = pd.DataFrame(x.numpy(), columns=list("abcd"), index=[f"row {i}" for i in range(ROWS)])
    frame.iloc[0, 1] = np.nan
    return frame


@pytest.fixture(scope="module")
def bayesian() -> lfm.Fit:
    x = lfm.Gaussian(4, mean=lfm.Linear(prior=priors.ARD()), covariance=lfm.Diagonal(prior=priors.Gamma()))
    model = lfm.Model(z=lfm.StandardNormal(2), x=x)
    return lfm.fit(model, _frame(), lfm.VariationalBayes(iterations=30), seed=0)


def test_names_dimensions_and_coordinates(bayesian: lfm.Fit) -> None:
    groups = bayesian.to_arviz(draws=6, chains=2)
    assert set(groups.groups()) == {"posterior", "posterior_predictive", "log_likelihood", "observed_data"}
    assert groups.posterior["z"].dims == ("chain", "draw", "row", "factor")
    assert groups.posterior["x.weight"].dims == ("chain", "draw", "column", "factor")
    assert groups.posterior["x.bias"].dims == ("chain", "draw", "column")
    assert groups.posterior["x.relevance"].dims == ("chain", "draw", "factor")
    assert groups.posterior_predictive["x"].dims == ("chain", "draw", "row", "column")
    assert groups.log_likelihood["x"].dims == ("chain", "draw", "row")
    assert groups.observed_data["x"].dims == ("row", "column")
    assert [*groups.posterior.coords["column"].values] == list("abcd")
    assert [*groups.posterior.coords["row"].values] == [*_frame().index]
    assert groups.posterior.sizes["chain"] == 2 and groups.posterior.sizes["draw"] == 6
    observed = groups.observed_data["x"].sel(row="row 0", column="b")
    assert np.isnan(observed) and not np.isnan(groups.posterior_predictive["x"]).any()


def test_arviz_reads_it(bayesian: lfm.Fit) -> None:
    groups = bayesian.to_arviz(draws=10, chains=4)
    summary = az.summary(groups, var_names=["x.weight"])
    assert summary.shape[0] == 8 and "x.weight[a, 0]" in summary.index
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a row's own z makes its weights heavy-tailed, as the page says
        assert np.isfinite(az.loo(groups).elpd_loo) and np.isfinite(az.waic(groups).elpd_waic)
    complete = bayesian.to_arviz(_frame().iloc[1:], draws=10)
    assert az.plot_ppc(complete, num_pp_samples=5) is not None


def test_draws_have_the_moments_of_the_posterior(bayesian: lfm.Fit) -> None:
    """200 draws: six standard errors over 8 + 4 numbers, a false alarm in about ten million runs."""
    groups = bayesian.to_arviz(draws=50, groups=["posterior"])
    assert set(groups.groups()) == {"posterior"}
    posterior = bayesian.posterior()
    for name in ("x.weight", "x.bias"):
        mean, scale = posterior[name].mean, posterior[name].variance.sqrt()
        drawn = torch.as_tensor(groups.posterior[name].mean(("chain", "draw")).values)
        assert bool(((drawn - mean).abs() < 6 * scale / 200**0.5).all())


def test_log_likelihood_is_that_of_the_observed_entries_at_the_draws() -> None:
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear())).double()
    fit = lfm.fit(model, _frame(), lfm.EM(), seed=0, progress=False)
    groups = fit.to_arviz(draws=4, chains=2, seed=1)
    z = torch.as_tensor(groups.posterior["z"].values)
    x = torch.tensor(_frame().to_numpy(np.float64))
    distribution = fit.model.factors["x"](z).base_dist
    expected = distribution.log_prob(x.nan_to_num()).masked_fill(x.isnan(), 0.0).sum(-1)
    assert np.allclose(groups.log_likelihood["x"].values, expected.detach().numpy(), atol=1e-10)
    again = fit.to_arviz(draws=4, chains=2, seed=1)
    assert again.posterior.equals(groups.posterior)
    assert again.posterior_predictive.equals(groups.posterior_predictive)


def test_several_latents_covariates_and_pictures() -> None:
    model = lfm.Model(
        a=lfm.StandardNormal(2),
        c=lfm.Categorical(3),
        t=lfm.Covariate(support=constraints.integer_interval(0, 2)),
        x=lfm.Bernoulli((2, 3), logits=lfm.MLP(4), given=("a", "c", "t")),
        y=lfm.Poisson(2, rate=lfm.MLP(4), given=("a",)),
    )
    guide = lfm.Guide(
        model,
        a=lfm.Gaussian(network=lfm.MLP(4), given=("x", "y")),
        c=lfm.Categorical(logits=lfm.MLP(4), given=("x",)),
    )
    data = model.sample(12, seed=0, given={"t": torch.arange(12) % 3})
    rows = {name: data[name] for name in ("t", "x", "y")}
    fit = lfm.fit(model, rows, lfm.SVI(guide, epochs=1), seed=0, progress=False)
    groups = fit.to_arviz(draws=5, chains=1)
    assert groups.posterior["a"].dims == ("chain", "draw", "row", "a_factor")
    assert groups.posterior["c"].dims == ("chain", "draw", "row")
    assert groups.posterior_predictive["x"].dims == ("chain", "draw", "row", "x_dim_0", "x_dim_1")
    assert groups.posterior_predictive["y"].dims == ("chain", "draw", "row", "y_column")
    assert set(groups.log_likelihood) == {"x", "y"} and set(groups.observed_data) == {"x", "y"}
    assert (groups.constant_data["t"].values == np.arange(12) % 3).all()


def test_mistakes_are_told_in_words(bayesian: lfm.Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, words in (
        ({"draws": 2}, "draws must be an int of at least 4"),
        ({"chains": 0}, "chains must be"),
        ({"groups": ["prior"]}, "groups must be among posterior, .*; got 'prior'"),
    ):
        with pytest.raises(DeclarationError, match=words):
            bayesian.to_arviz(**arguments)
    with pytest.raises(DataError, match="columns that were fitted"):
        bayesian.to_arviz(_frame().rename(columns={"a": "other"}))
    baseline = lfm.fit(lfm.Model(x=lfm.Gaussian(4)), _frame(), lfm.EM(), progress=False)
    with pytest.raises(DeclarationError, match="fit.to_arviz needs latents"):
        baseline.to_arviz()
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match=r"fit.to_arviz needs arviz: pip install 'pyro_lfm\[stats\]'"):
        bayesian.to_arviz()
