"""Jacobian loadings and variance explained: against linear models, finite differences, and shares known in advance."""

import math

import cases
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm import plots
from pyro_lfm.evaluate.decoding import jacobian
from pyro_lfm.evaluate.decoding import variance_shares as explained
from pyro_lfm.evaluate.decoding.decoder import Decoder


def linear(rows, weight, noise=1.0, seed=0):
    mean = lfm.Linear(weight=lfm.Fixed(weight), bias=lfm.Fixed(torch.arange(len(weight)).float()))
    x = lfm.Gaussian(len(weight), mean=mean, covariance=lfm.Isotropic(lfm.Fixed(noise**2)))
    model = lfm.Model(z=lfm.StandardNormal(weight.shape[1]), x=x).double()
    return model, lfm.ExactPosterior(model), model.sample(rows, seed=seed)["x"]


WEIGHT = torch.tensor([[3.0, 0.0], [4.0, 0.0], [0.0, 1.0], [0.0, -2.0], [0.0, 0.0]])


@pytest.mark.parametrize("draws", [None, 3])
def test_loadings_of_a_linear_model_are_its_weight(draws):
    model, guide, x = linear(300, WEIGHT)
    result = lfm.evaluate.loadings((model, guide), x, draws=draws, per_row=True)
    weight = WEIGHT.double()
    assert torch.allclose(result.mean, weight) and torch.allclose(result.rms, weight.abs())
    assert result.mean_error.max() < 1e-6 and result.rms_error.max() < 1e-6
    assert result.bending.abs().max() < 1e-9 and result.factors == ("z_1", "z_2")
    assert torch.allclose(result.per_row, weight.expand(300, -1, -1))
    # The data are drawn from the model, so the aggregate posterior has the prior's variance of 1, within 4 standard errors
    # of N = 300.
    assert (result.scale - 1).abs().max() < 4 / (2 * 300) ** 0.5
    assert torch.allclose(result.standardised, weight * result.scale)
    assert repr(result).splitlines()[2].strip().startswith("z_1")


@pytest.mark.parametrize("name", [n for n in cases.LIKELIHOODS if n != "cauchy"])
def test_derivatives_of_every_likelihood_agree_with_differences(name):
    torch.manual_seed(0)
    model = cases.one_latent(likelihood=name).double()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-diagonal"]).double()
    data = cases.rows_of(model)
    result = lfm.evaluate.loadings((model, guide), data, per_row=True)
    decoder = Decoder(model, "this test")
    batch = lfm.Batch({n: torch.as_tensor(v).double() for n, v in data.items()})
    with torch.no_grad():
        at, _, others = decoder.means(guide, batch)
        for k in range(cases.K):
            step = torch.zeros_like(at)
            step[:, k] = 1e-5
            high, low = (decoder(at + sign * step, others, batch)["x"] for sign in (1, -1))
            assert torch.allclose(result.per_row[..., k], (high - low) / 2e-5, atol=1e-6, rtol=1e-5)


def test_a_decoder_that_bends_and_its_errors_over_rows(monkeypatch):
    """E[x | z] = z²: J = 2 z, of mean 0 and mean square 4 Var, at 4 standard errors: a false alarm in 8,000 runs."""

    class Square(torch.nn.Module):
        def forward(self, z):
            return z.square()

    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(1, mean=Square())).double()
    rows = 2000
    values = torch.randn(rows, 1, generator=torch.Generator().manual_seed(1)).double()
    exact = lfm.Gaussian(mean=lfm.Linear(weight=lfm.Fixed(torch.ones(1, 1)), bias=lfm.Fixed(torch.zeros(1))))
    guide = lfm.Guide(model, z=exact).double()
    result = lfm.evaluate.loadings((model, guide), values)
    assert abs(float(result.mean)) < 4 * float(result.mean_error)
    assert float(result.mean_error) == pytest.approx(2 / rows**0.5, rel=0.1)
    assert abs(float(result.rms) - 2) < 4 * float(result.rms_error)
    # The fourth moment of a Gaussian: Var(J²) = 32, of the root 32 / (4 · 4 N).
    assert float(result.rms_error) == pytest.approx((2 / rows) ** 0.5, rel=0.2)
    assert float(result.bending) > 0.99
    monkeypatch.setattr(jacobian, "_ROWS", 300)
    parts = lfm.evaluate.loadings((model, guide), values)
    assert torch.allclose(parts.mean, result.mean) and torch.allclose(parts.rms_error, result.rms_error)


def test_several_views_layers_shared_parameters_and_labels():
    torch.manual_seed(0)
    model = cases.two_layers_two_views()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    result = lfm.evaluate.loadings((model, guide), cases.rows_of(model))
    assert result["x"].mean.shape == (cases.D, 5) and result["label"].mean.shape == (3, 5)
    assert result["x"].factors == ("top_1", "top_2", "z_1", "z_2", "z_3")
    assert (result["x"].rms[:, :2] == 0).all(), "x reads z alone"
    # Probabilities of categories sum to one for all factors.
    assert result["label"].mean.sum(0).abs().max() < 1e-6
    bayes = lfm.Model(
        z=lfm.StandardNormal(2),
        x=lfm.Gaussian(
            3,
            mean=lfm.Linear(prior=lfm.parameter_priors.ARD()),
            covariance=lfm.Isotropic(prior=lfm.parameter_priors.Gamma(1.0, 1.0)),
        ),
    )
    fit = lfm.fit(bayes, torch.randn(60, 2) @ torch.randn(2, 3), lfm.VariationalBayes(), progress=False)
    weight = fit.posterior()["x.weight"].mean.reshape(3, 2)
    assert torch.allclose(lfm.evaluate.loadings(fit).mean.abs(), weight.abs(), atol=1e-5)
    mixed = cases.mixture_of_factor_analysers(lfm.Isotropic())
    pair, rows = (mixed, lfm.ExactPosterior(mixed)), cases.rows_of(mixed)
    assert lfm.evaluate.loadings(pair, rows, draws=2).mean.shape == (cases.D, cases.K)
    with pytest.raises(lfm.DeclarationError, match="no values of c"):
        lfm.evaluate.loadings(pair, rows)


def test_what_has_no_loadings_is_refused_in_words():
    label = cases.mixture(lfm.Gaussian(cases.D, mean=lfm.Lookup(), given="c"))
    with pytest.raises(lfm.DeclarationError, match="has none: its latents are c"):
        lfm.evaluate.loadings((label, lfm.ExactPosterior(label)), cases.rows_of(label))
    cauchy = cases.one_latent(likelihood="cauchy")
    guide = cases.guide_for(cauchy, cases.GUIDES["gaussian-diagonal"])
    with pytest.raises(lfm.DeclarationError, match="needs the mean of x; Cauchy has none"):
        lfm.evaluate.loadings((cauchy, guide), cases.rows_of(cauchy))
    with pytest.raises(lfm.DeclarationError, match="draws must be a positive int"):
        lfm.evaluate.loadings((cauchy, guide), cases.rows_of(cauchy), draws=0)


# Variance explained ------------------------------------------------------------------------------------------


def shares(weight, noise):
    """R² of each factor and of all, for rows of the model and the exact posterior."""
    w = weight.double()
    inverse = (torch.eye(w.shape[1]).double() + w.T @ w / noise**2).inverse()
    total = float(w.square().sum() + noise**2 * len(w))
    alone = w.square().sum(0) * (1 + inverse.diagonal()) / total
    return alone, float((w @ (torch.eye(w.shape[1]).double() + inverse) @ w.T).trace()) / total


@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_shares_of_a_linear_model_are_known(noise):
    """At 4 standard errors over 3000 rows, three figures, twice: a false alarm in 2,600 runs."""
    model, guide, x = linear(3000, WEIGHT, noise)
    result = lfm.evaluate.variance_explained((model, guide), x)
    alone, total = shares(WEIGHT, noise)
    assert ((result.alone["x"][0] - alone).abs() < 4 * result.alone_error["x"][0]).all()
    assert abs(float(result.total["x"][0]) - total) < 4 * float(result.total_error["x"][0])
    assert result.alone_error["x"].max() < 0.02
    # Loadings without a common column: the shares add up, and alone is unique.
    assert float(result.alone["x"].sum()) == pytest.approx(float(result.total["x"][0]), abs=0.01)
    assert torch.allclose(result.alone["x"], result.unique["x"], atol=0.01)
    lines = repr(result).splitlines()
    assert lines[2].split()[0] == "z_1" and lines[-1].split()[0] == "all"


def test_errors_over_rows_are_those_of_other_samples():
    """R² of 40 samples of 200 rows: their spread is the mean of their errors, within 35%: a false alarm in 1,000 runs."""
    result = []
    for seed in range(40):
        model, guide, x = linear(200, WEIGHT, seed=seed)
        result.append(lfm.evaluate.variance_explained((model, guide), x))
    spread = torch.stack([each.alone["x"][0] for each in result]).std(0)
    error = torch.stack([each.alone_error["x"][0] for each in result]).mean(0)
    assert ((spread / error - 1).abs() < 0.35).all()


def test_groups_have_means_of_their_own_and_missing_entries_do_not_count(monkeypatch):
    model, guide, x = linear(900, WEIGHT, 0.1)
    labels = ["a", "b", "b"] * 300
    shifted = x.clone()
    shifted[0::3, 4] += 100.0
    whole = lfm.evaluate.variance_explained((model, guide), shifted)
    result = lfm.evaluate.variance_explained((model, guide), shifted, groups=labels)
    assert result.groups == ("a", "b") and result.alone["x"].shape == (2, 2)
    assert result.total["x"].min() > 0.99 > 0.1 > float(whole.total["x"][0])
    holed = x.clone()
    holed[torch.rand(holed.shape, generator=torch.Generator().manual_seed(0)) < 0.3] = math.nan
    some = lfm.evaluate.variance_explained((model, guide), holed)
    full = lfm.evaluate.variance_explained((model, guide), x)
    assert (some.alone["x"] - full.alone["x"]).abs().max() < 0.03
    monkeypatch.setattr(explained, "_ROWS", 128)
    parts = lfm.evaluate.variance_explained((model, guide), holed, groups=labels)
    assert torch.allclose(parts.alone["x"].mean(0), some.alone["x"][0], atol=0.03)
    one = lfm.evaluate.variance_explained((model, guide), x[:3], groups=["a", "a", "b"])
    assert one.total["x"][1].isnan() and not one.total["x"][0].isnan()
    with pytest.raises(lfm.ShapeError, match=r"groups must have shape \(900,\)"):
        lfm.evaluate.variance_explained((model, guide), x, groups=labels[:5])


@pytest.mark.parametrize("name", cases.LIKELIHOODS)
def test_every_likelihood(name):
    torch.manual_seed(0)
    model = cases.one_latent(likelihood=name)
    guide = cases.guide_for(model, cases.GUIDES["gaussian-diagonal"])
    if name == "cauchy":
        with pytest.raises(lfm.DeclarationError, match="Cauchy has none"):
            lfm.evaluate.variance_explained((model, guide), cases.rows_of(model))
        return
    result = lfm.evaluate.variance_explained((model, guide), cases.rows_of(model))
    assert result.alone["x"].shape == (1, cases.K) and result.total["x"].max() <= 1
    size = model.observed["x"].categories or model.observed["x"].shape.numel()
    assert lfm.evaluate.loadings((model, guide), cases.rows_of(model)).mean.shape == (size, cases.K)


def test_labels_that_follow_a_factor_are_explained():
    """A label for the sign of a factor, with a decoder that computes it."""
    logits = lfm.Linear(
        weight=lfm.Fixed(torch.tensor([[-20.0, 0.0], [20.0, 0.0]])), bias=lfm.Fixed(torch.zeros(2))
    )
    view = lfm.Gaussian(
        2,
        mean=lfm.Linear(weight=lfm.Fixed(torch.eye(2))),
        covariance=lfm.Isotropic(lfm.Fixed(1e-4)),
        given="z",
    )
    model = lfm.Model(z=lfm.StandardNormal(2), v=view, y=lfm.Categorical(2, logits=logits, given="z"))
    guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear(weight=lfm.Fixed(torch.eye(2))), given="v"))
    drawn = model.sample(400, seed=0)
    result = lfm.evaluate.variance_explained((model, guide), {"v": drawn["v"], "y": drawn["y"]})
    assert float(result.alone["y"][0, 0]) > 0.8 and abs(float(result.alone["y"][0, 1])) < 1e-6
    assert result.alone["v"][0].min() > 0.4


def test_the_heat_map_has_a_row_for_each_factor_and_a_column_for_each_view():
    torch.manual_seed(0)
    model = cases.two_views()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    result = lfm.evaluate.variance_explained((model, guide), cases.rows_of(model), groups=[0, 1] * 6)
    axes = plots.variance_explained(result).axes
    maps = [ax for ax in axes if ax.images]
    assert [ax.get_title(loc="left") for ax in axes[:2]] == ["0", "1"]
    assert maps[0].images[0].get_array().shape == (3, 2)
    assert [label.get_text() for label in maps[0].get_xticklabels()] == ["x", "y"]


@pytest.mark.parametrize("rows", [3, 15, 40, 101])
def test_what_does_not_vary_is_not_explained(rows):
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    pair = model, lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear()))
    alike = torch.randn(1, 3).expand(rows, 3)
    assert lfm.evaluate.variance_explained(pair, alike).total["x"].isnan().all()
