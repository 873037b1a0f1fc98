"""EM and variational EM of linear Gaussian models through the public interface, against closed forms."""

import copy
import math
import warnings

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.decomposition import FactorAnalysis

import pyro_lfm as lfm


def linear(features, latent, covariance=None, prior=None, **line):
    """A linear Gaussian model in float64, its weights drawn from seed 0."""
    torch.manual_seed(0)
    covariance = lfm.Diagonal() if covariance is None else covariance
    prior = lfm.StandardNormal(latent) if prior is None else prior
    return lfm.Model(
        z=prior, x=lfm.Gaussian(features, mean=lfm.Linear(**line), covariance=covariance)
    ).double()


def simulated(seed, rows=60, features=6, latent=2, missing=0.0):
    generator = torch.Generator().manual_seed(seed)
    options = {"generator": generator, "dtype": torch.float64}
    weight, z = torch.randn(features, latent, **options), torch.randn(rows, latent, **options)
    x = z @ weight.T + torch.randn(features, **options) + 0.5 * torch.randn(rows, features, **options)
    return torch.where(torch.rand(x.shape, **options) < missing, torch.nan, x)


def standardised(load):
    x = torch.as_tensor(load().data, dtype=torch.float64)
    x = x[:, x.std(0) > 0]
    return (x - x.mean(0)) / x.std(0, correction=0)


def distribution_of(model):
    """The marginal N(b + W m, W S Wᵀ + Ψ) of a model, and M, from its distributions alone."""
    latent = model.latents["z"].shape[0]
    with torch.no_grad():
        at_zero = model.factors["x"](torch.zeros(1, latent).double())
        weight = model.factors["x"](torch.eye(latent).double()).mean.T - at_zero.mean.T
        prior = model.factors["z"]()

    def spread(distribution):
        return getattr(distribution, "covariance_matrix", torch.diag_embed(distribution.variance))

    noise, prior_covariance = spread(at_zero).squeeze(0), spread(prior)
    mean = at_zero.mean[0] + weight @ prior.mean
    precision = prior_covariance.inverse() + weight.T @ noise.inverse() @ weight
    return mean, weight @ prior_covariance @ weight.T + noise, precision


def brute_force(model, x):
    """log p of the observed entries of each row, one marginal Gaussian at a time."""
    mean, covariance, _ = distribution_of(model)
    values = []
    for row in x:
        present = ~row.isnan()
        if not present.any():
            values.append(row.new_zeros(()))
            continue
        distribution = torch.distributions.MultivariateNormal(mean[present], covariance[present][:, present])
        values.append(distribution.log_prob(row[present]))
    return torch.stack(values)


def fitted(model, x, inference, **options):
    return lfm.fit(model, x, inference, seed=0, progress=False, **options)


@pytest.mark.parametrize("start", ["data", "model"])
@pytest.mark.parametrize(
    ("load", "latent", "published"), [(load_iris, 2, -2.699751868), (load_digits, 10, -159.993731201)]
)
def test_em_reaches_the_closed_form_of_probabilistic_pca(load, latent, published, start):
    x = load().data
    fit = fitted(linear(x.shape[1], latent, lfm.Isotropic()), x, lfm.EM(start=start))
    assert fit.log_likelihood().mean().item() == pytest.approx(published, abs=1e-8)
    assert fit.history[-1]["log_likelihood"] == pytest.approx(published, abs=1e-8)


def test_a_float32_model_gets_the_float64_solution_rounded():
    x = load_iris().data
    fit = fitted(linear(4, 2, lfm.Isotropic()).float(), x, lfm.EM())
    assert fit.model.dtype == torch.float32 and fit.log_likelihood().dtype == torch.float64
    assert fit.history[-1]["log_likelihood"] == pytest.approx(-2.699751868, abs=1e-8)
    assert fit.log_likelihood().mean().item() == pytest.approx(-2.699751868, abs=1e-8)


@pytest.mark.parametrize("load", [load_digits, load_wine, load_breast_cancer, load_diabetes])
def test_factor_analysis_is_at_least_as_good_as_scikit_learns(load):
    x = standardised(load)
    latent = 5
    floor = 1e-6  # scikit-learn adds 1e-12 to each variance, and knows no other floor
    other = FactorAnalysis(latent, svd_method="lapack", tol=1e-8, max_iter=3000).fit(x.numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lfm.ScaleFloorWarning)
        fit = fitted(linear(x.shape[1], latent, lfm.Diagonal(min_scale=floor)), x, lfm.EM(iterations=300))
    assert fit.log_likelihood().mean().item() >= other.score(x.numpy()) - 1e-8


@pytest.mark.parametrize("inference", [lfm.EM, lfm.VariationalEM])
@pytest.mark.parametrize("covariance", [lfm.Isotropic, lfm.Diagonal])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_the_bound_never_falls_and_adds_up(inference, covariance, missing):
    for seed in range(13):
        x = simulated(seed, missing=missing)
        fit = fitted(linear(6, 2, covariance()), x, inference(start="model", iterations=40))
        bounds = [record["bound"] for record in fit.history if record["step"] == "E"]
        assert np.diff(bounds).min(initial=0.0) > -1e-9
        for record in fit.history:
            assert record["log_likelihood"] == pytest.approx(record["bound"] + record["kl"], abs=1e-10)
            assert record["kl"] > -1e-10 and record["epoch"] == record["iteration"]
        if inference is lfm.EM:
            assert all(abs(record["kl"]) < 1e-12 for record in fit.history if record["step"] == "E")


def test_the_gap_of_variational_em_is_the_closed_form():
    x = simulated(3)
    weight = torch.randn(6, 2, generator=torch.Generator().manual_seed(1))
    fit = fitted(linear(6, 2, weight=lfm.Fixed(weight)), x, lfm.VariationalEM())
    precision = distribution_of(fit.model)[2]
    gap = 0.5 * (precision.diagonal().log().sum() - precision.logdet()).item()
    assert gap > 0.01
    assert fit.history[-1]["kl"] == pytest.approx(gap, abs=1e-8)
    assert isinstance(fit.guide, lfm.FactorisedPosterior)
    torch.testing.assert_close(fit.posterior().variance[0], 1 / precision.diagonal())
    again = fitted(fit.model, x, lfm.VariationalEM(start="model", iterations=1), validation=x)
    assert again.history[-1]["validation_bound"] == pytest.approx(again.history[-1]["bound"], abs=1e-9)
    # The bound of the very guide, by Monte Carlo.
    bound = fit.bound(draws=400).mean().item()
    assert bound == pytest.approx(fit.history[-1]["bound"], abs=0.05)


@pytest.mark.parametrize("covariance", ["isotropic", "diagonal", "full", "prior"])
def test_missing_entries_are_marginalised_exactly(covariance):
    x = simulated(5, missing=0.3)
    prior, spread = None, {"isotropic": lfm.Isotropic(), "diagonal": lfm.Diagonal()}.get(covariance)
    if covariance == "full":
        root = torch.eye(6).double() + 0.3 * torch.ones(6, 6).double().tril(-1)
        spread = lfm.Full(lfm.Fixed(0.3 * root @ root.T))
    if covariance == "prior":
        matrix = torch.tensor([[2.0, 0.5], [0.5, 1.0]])
        prior = lfm.Gaussian(2, mean=lfm.Fixed([1.0, -1.0]), covariance=lfm.Full(lfm.Fixed(matrix)))
    fit = fitted(linear(6, 2, spread, prior), x, lfm.EM(iterations=30))
    exact = brute_force(fit.model, x)
    assert (fit.log_likelihood() - exact).abs().max() < 1e-8
    # Every single draw from the exact posterior gives log p(x), row by row.
    assert (fit.bound() - exact).abs().max() < 1e-8
    loss = pyro.infer.Trace_ELBO().loss(fit.model, fit.guide, lfm.Batch(x))
    assert -loss == pytest.approx(exact.sum().item(), abs=1e-6)


@pytest.mark.parametrize("load", [load_digits, load_wine, load_breast_cancer, load_diabetes, load_iris])
def test_imputation_beats_the_column_mean(load):
    x = standardised(load)[:400]
    hidden = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    visible = torch.where(hidden, torch.nan, x)
    visible = visible[:, (~hidden).sum(0) > 1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lfm.ScaleFloorWarning)
        fit = fitted(linear(x.shape[1], 2, lfm.Diagonal(min_scale=0.1)), visible, lfm.EM(iterations=25))
    error = (fit.reconstruct() - x)[hidden].square().mean()
    assert error < (visible.nanmean(0) - x)[hidden].square().mean()


@pytest.mark.parametrize("held", ["weight", "bias", "noise"])
@pytest.mark.parametrize("start", ["data", "model"])
def test_what_is_fixed_stays(held, start):
    x = simulated(1)
    value = {"weight": torch.randn(6, 2).double(), "bias": torch.randn(6).double(), "noise": 0.7}[held]
    line = {} if held == "noise" else {held: lfm.Fixed(value)}
    model = linear(6, 2, lfm.Isotropic(lfm.Fixed(0.7) if held == "noise" else None), **line)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    learned = {name for name, _ in model.named_parameters()}
    fit = fitted(model, x, lfm.EM(start=start))
    for name, tensor in fit.model.state_dict().items():
        # Floors are in units of the data that are fitted.
        if not name.endswith("_floor"):
            assert bool((tensor == before[name]).all()) == (name not in learned)
    # From the data it may start where the maximum is.
    gain = fit.history[-1]["bound"] - fit.history[0]["bound"]
    assert gain > (0.0 if start == "model" else -1e-12)


def test_em_goes_on_where_svi_stopped_and_the_other_way_round():
    x = simulated(2, rows=200)
    model = linear(6, 2)
    guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear(), covariance=lfm.Full()))
    svi = lfm.SVI(guide, epochs=100, batch_size=200, learning_rate=0.03)
    first = fitted(model, x, svi)
    reached = first.log_likelihood().mean().item()
    assert first.log_likelihood(x[:5]) == pytest.approx(brute_force(model, x[:5]), abs=1e-9)
    second = fitted(model, x, lfm.EM(start="model"))
    assert second.model is model
    assert second.history[0]["log_likelihood"] == pytest.approx(reached, abs=1e-9)
    best = second.log_likelihood().mean().item()
    assert best > reached
    # An encoder that fits, and EM's parameters to start from: SVI stays at the maximum.
    held = copy.deepcopy(model)
    for parameter in held.parameters():
        parameter.requires_grad_(False)
    fitted(held, x, lfm.SVI(guide, epochs=300, batch_size=200, learning_rate=0.02))
    third = fitted(model, x, lfm.SVI(guide, epochs=50, batch_size=200, learning_rate=1e-3))
    assert best - 0.02 < third.log_likelihood().mean().item() <= best + 1e-9
    last = fitted(model, x, lfm.EM(start="model"))
    assert last.log_likelihood().mean().item() == pytest.approx(best, abs=1e-7)


def test_svi_with_the_exact_posterior_climbs_the_likelihood_itself():
    x = simulated(4)
    model = linear(6, 2)
    guide = lfm.ExactPosterior(model)
    fit = fitted(model, x, lfm.SVI(guide, epochs=400, batch_size=60, learning_rate=0.03))
    assert not list(guide.parameters())
    best = fitted(linear(6, 2), x, lfm.EM()).log_likelihood().mean()
    assert best - 0.05 < fit.log_likelihood().mean() <= best + 1e-9
    assert "exact posterior p(z | x)" in lfm.describe(model, guide)
    assert lfm.ELBO(particles=3).bound(model, guide, x).per_row.shape == (60,)
    copied = copy.deepcopy((model, guide))
    assert copied[1].model is copied[0]


def test_the_posterior_is_a_distribution_over_rows():
    x = simulated(2)
    fit = fitted(linear(6, 2), x, lfm.EM())
    distribution = fit.posterior(x[:5])
    assert isinstance(distribution, torch.distributions.MultivariateNormal)
    assert distribution.batch_shape == (5,) and distribution.event_shape == (2,)
    precision = distribution_of(fit.model)[2]
    torch.testing.assert_close(distribution.covariance_matrix[3], precision.inverse())


def test_events_of_any_shape():
    x = simulated(7).reshape(-1, 2, 3)
    model = linear((2, 3), (2, 1), prior=lfm.StandardNormal((2, 1)))
    fit = fitted(model, x, lfm.EM())
    flat = fitted(linear(6, 2), x.flatten(1), lfm.EM())
    torch.testing.assert_close(fit.log_likelihood(), flat.log_likelihood())
    assert fit.posterior(x[:4]).event_shape == (2, 1) and fit.reconstruct(x[:4]).shape == (4, 2, 3)


def test_callbacks_validation_and_stopping():
    x, records = simulated(8), []

    def stop(record, fit):
        records.append((record["iteration"], fit.log_likelihood(x).mean().item(), record["log_likelihood"]))
        return record["iteration"] == 3

    fit = fitted(linear(6, 2), x, lfm.EM(start="model"), callbacks=[stop], validation=x[:20])
    assert [number for number, _, _ in records] == [0, 1, 2, 3]
    for _, written, recorded in records:
        assert written == pytest.approx(recorded, abs=1e-8)
    exact = fit.log_likelihood(x[:20]).mean().item()
    assert fit.history[-1]["validation_bound"] == pytest.approx(exact, abs=1e-8)
    assert [r["step"] for r in fit.history] == ["E", "M", "E", "M", "E", "M", "E"]


def test_a_memory_map_is_read_in_blocks(tmp_path):
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (200_000, 50))
    x[:] = np.random.default_rng(0).normal(size=(1000, 50)).repeat(200, 0)
    x.flush()
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    fit = fitted(linear(50, 2, lfm.Isotropic(min_scale=0.1)), mapped, lfm.EM(iterations=3))
    assert math.isfinite(fit.history[-1]["bound"]) and fit.log_likelihood().shape == (200_000,)


@pytest.mark.parametrize(
    "kind", ["constant", "duplicated", "one row", "fewer rows than columns", "all equal"]
)
def test_degenerate_data_give_an_answer_and_a_warning(kind):
    x = simulated(9)
    if kind == "constant":
        x[:, 1] = 3.0
    elif kind == "duplicated":
        x = torch.cat([x, x[:, :2]], 1)
    else:
        x = {"one row": x[:1], "fewer rows than columns": x[:3], "all equal": torch.ones(20, 6)}[kind]
    with pytest.warns(lfm.ScaleFloorWarning, match="column"):
        fit = fitted(linear(x.shape[1], 2), x, lfm.EM(iterations=500))
    assert fit.log_likelihood().isfinite().all() and fit.posterior().mean.isfinite().all()


def test_a_column_without_entries_is_an_error_in_words():
    x = simulated(9)
    x[:, 2] = torch.nan
    with pytest.raises(lfm.DataError, match="got none in column 2: drop"):
        fitted(linear(6, 2), x, lfm.EM())
    with pytest.raises(lfm.DataError, match="got none in column 'c': drop"):
        fitted(linear(6, 2), pd.DataFrame(x.numpy(), columns=list("abcdef")), lfm.EM())


CANNOT = {
    "x.mean is MLP": lambda: lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(6, mean=lfm.MLP(8))),
    "z.mean is learned": lambda: lfm.Model(z=lfm.Gaussian(2), x=lfm.Gaussian(6, mean=lfm.Linear())),
    "x.covariance is MLP": lambda: lfm.Model(
        z=lfm.StandardNormal(2), x=lfm.Gaussian(6, mean=lfm.Linear(), covariance=lfm.Diagonal(lfm.MLP(8)))
    ),
    "x.covariance is Full and learned": lambda: linear(6, 2, lfm.Full()),
    "x.covariance is LowRank": lambda: linear(6, 2, lfm.LowRank(1)),
    "x.mean is head of MLP": lambda: lfm.Model(
        z=lfm.StandardNormal(2), x=lfm.Gaussian(6, network=lfm.MLP(8))
    ),
    "its latents are": lambda: lfm.Model(
        top=lfm.StandardNormal(2),
        z=lfm.Gaussian(2, mean=lfm.Linear(), given="top"),
        x=lfm.Gaussian(6, mean=lfm.Linear(), given="z"),
    ),
    "a program by hand": lambda: lfm.PyroModel(linear(6, 2).forward),
}


@pytest.mark.parametrize("words", CANNOT)
def test_what_em_cannot_serve_it_says_by_name(words):
    model = CANNOT[words]()
    with pytest.raises(lfm.DeclarationError, match=words + ".*closed form needs.*lfm.SVI"):
        fitted(model, torch.zeros(5, 6), lfm.EM())


def test_arguments_are_checked_in_words():
    for options, words in [
        ({"start": "random"}, "start must be"),
        ({"iterations": -1}, "iterations must be"),
        ({"tolerance": -1.0}, "tolerance must be"),
        ({"restarts": 0}, "restarts must be"),
    ]:
        with pytest.raises(lfm.DeclarationError, match=words):
            lfm.EM(**options)
    noise = lfm.Full(lfm.Fixed(torch.eye(6)))
    with pytest.raises(lfm.DeclarationError, match="x.covariance is Full"):
        fitted(linear(6, 2, noise), simulated(0), lfm.VariationalEM())
    with pytest.raises(lfm.DeclarationError, match="checkpoint"):
        fitted(linear(6, 2), simulated(0), lfm.EM(), checkpoint="x.pt")
    with pytest.raises(lfm.DeclarationError, match="x.mean is MLP"):
        model = CANNOT["x.mean is MLP"]()
        guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
        fitted(model, torch.zeros(5, 6), lfm.SVI(guide, steps=1)).log_likelihood()


def test_variational_em_sends_only_those_models_to_em_that_em_serves():
    noise = lfm.Full(lfm.Fixed(torch.eye(6)))
    for model, remedy in [
        (linear(6, 2, noise), r"use lfm\.EM\(\), or lfm\.SVI\(guide\)"),
        (CANNOT["x.mean is MLP"](), r"use lfm\.SVI\(guide\)"),
    ]:
        with pytest.raises(lfm.DeclarationError, match=remedy):
            fitted(model, torch.zeros(5, 6), lfm.VariationalEM())
