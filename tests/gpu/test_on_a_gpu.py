"""What a user does, with device="cuda": fits under every engine, EM, files, evaluation, generation.

The numbers are those of the same program on the CPU where there is no noise, and close to it where there is, as the streams
of random numbers of the two differ.
"""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import pyro_lfm as lfm

DEVICE = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch can use no GPU here")

N, D, K = 256, 6, 2


def rows(seed=0):
    """Rows of two factors and noise, (N, D)."""
    stream = np.random.default_rng(seed)
    x = stream.normal(size=(N, K)) @ stream.normal(size=(K, D)) + 0.3 * stream.normal(size=(N, D))
    return x.astype(np.float32)


def declared(covariance=lfm.Diagonal):
    model = lfm.Model(z=lfm.StandardNormal(K), x=lfm.Gaussian(D, mean=lfm.MLP(16), covariance=lfm.Diagonal()))
    return model, lfm.Guide(model, z=lfm.Gaussian(covariance=covariance(), network=lfm.MLP(16)))


def fitted(device=DEVICE, epochs=3, covariance=lfm.Diagonal, data=None, **settings):
    model, guide = declared(covariance)
    inference = lfm.SVI(guide, epochs=epochs, batch_size=64, **settings)
    data = rows() if data is None else data
    return lfm.fit(model, data, inference, seed=0, progress=False, device=device)


def is_on_the_device(value):
    return value.device.type == torch.device(DEVICE).type


@pytest.mark.parametrize("engine", ["auto", "eager", "compiled", "pyro"])
def test_every_engine_trains_there(engine):
    with warnings.catch_warnings():
        warnings.simplefilter("error", lfm.CompilationWarning)  # eager steps under another name
        fit = fitted(engine=engine, epochs=30, learning_rate=1e-2)
    assert all(is_on_the_device(parameter) for parameter in fit.model.parameters())
    bounds = [record["bound"] for record in fit.history]
    there, here = (
        bounds[-1],
        fitted("cpu", engine="eager", epochs=30, learning_rate=1e-2).history[-1]["bound"],
    )
    # Two runs with other noise, at seeds that were not chosen, on the way from a bound near -10.
    assert bounds[-1] > bounds[0] + 1 and there == pytest.approx(here, abs=1.0)


def test_compiled_steps_are_the_eager_ones():
    eager, compiled = (fitted(engine=engine, epochs=4) for engine in ("eager", "compiled"))
    for one, other in zip(eager.history, compiled.history, strict=True):
        assert one["bound"] == pytest.approx(other["bound"], abs=1e-3)


@pytest.mark.parametrize("covariance", [lfm.Isotropic, lfm.Full, lambda: lfm.LowRank(1)])
def test_every_covariance_trains_there(covariance):
    fit = fitted(covariance=covariance)
    assert math.isfinite(fit.history[-1]["bound"]) and is_on_the_device(fit.posterior(rows()).mean)


@pytest.mark.parametrize("objective", [lfm.ELBO(particles=3), lfm.ImportanceWeightedELBO(particles=5)])
def test_objectives_with_several_draws(objective):
    assert math.isfinite(fitted(objective=objective).history[-1]["bound"])


def test_autocast_in_bfloat16():
    with torch.autocast(DEVICE, torch.bfloat16):
        half = fitted()
    assert all(parameter.dtype == torch.float32 for parameter in half.model.parameters())
    assert half.history[-1]["bound"] == pytest.approx(fitted().history[-1]["bound"], rel=0.02)


@pytest.mark.parametrize(
    "held",
    [lambda x: torch.from_numpy(x).to(DEVICE), lambda x: pd.DataFrame(x), lambda x: {"x": x}],
    ids=["tensor there", "DataFrame", "dictionary"],
)
def test_rows_may_be_anywhere(held):
    model, guide = declared()
    x = held(rows())
    fit = lfm.fit(model, x, lfm.SVI(guide, epochs=1), validation=x, seed=0, progress=False, device=DEVICE)
    assert math.isfinite(fit.history[-1]["validation_bound"])


def test_rows_with_holes_and_parameters_per_row():
    x = rows()
    x[::3, 1] = np.nan
    model = lfm.Model(z=lfm.StandardNormal(K), x=lfm.Gaussian(D, mean=lfm.Linear()))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.PerRow()))
    fit = lfm.fit(model, x, lfm.SVI(guide, epochs=2), seed=0, progress=False, device=DEVICE)
    filled = fit.reconstruct()
    assert not torch.isnan(filled).any() and is_on_the_device(filled)


def test_a_discrete_latent_is_summed_out_there():
    model = lfm.Model(c=lfm.Categorical(3), x=lfm.Gaussian(D, mean=lfm.Lookup(), given="c"))
    guide = lfm.Guide(model, c=lfm.Categorical(logits=lfm.MLP(8)))
    fit = lfm.fit(model, rows(), lfm.SVI(guide, epochs=2), seed=0, progress=False, device=DEVICE)
    probabilities = fit.posterior(rows()).probs
    assert is_on_the_device(probabilities) and torch.allclose(probabilities.sum(-1).cpu(), torch.ones(N))


@pytest.mark.parametrize("inference", [lfm.EM(), lfm.VariationalEM()], ids=["EM", "variational EM"])
def test_closed_forms_give_the_numbers_of_the_cpu(inference):
    fits = []
    for device in (DEVICE, "cpu"):
        ppca = lfm.Model(
            z=lfm.StandardNormal(K), x=lfm.Gaussian(D, mean=lfm.Linear(), covariance=lfm.Isotropic())
        ).double()
        fits.append(lfm.fit(ppca, rows(), inference, seed=0, progress=False, device=device))
    there, here = fits
    assert is_on_the_device(next(there.model.parameters()))
    of_rows = there.log_likelihood(rows())
    assert is_on_the_device(of_rows)
    assert torch.allclose(of_rows.cpu(), here.log_likelihood(rows()), atol=1e-6)


def test_variational_bayes():
    model = lfm.Model(
        z=lfm.StandardNormal(3),
        x=lfm.Gaussian(
            D,
            mean=lfm.Linear(prior=lfm.parameter_priors.ARD()),
            covariance=lfm.Isotropic(prior=lfm.parameter_priors.Gamma()),
        ),
    )
    fit = lfm.fit(model, rows(), lfm.VariationalBayes(), seed=0, progress=False, device=DEVICE)
    assert fit.rank == K and is_on_the_device(fit.posterior(rows())["z"].mean)


def test_a_saved_fit_is_read_on_the_cpu_and_goes_back(tmp_path):
    fit = fitted(covariance=lfm.Full)
    fit.save(tmp_path / "run")
    read = lfm.load(tmp_path / "run")
    there, here = fit.posterior(rows()), read.posterior(rows())
    assert here.mean.device.type == "cpu"
    assert torch.allclose(there.mean.cpu(), here.mean, atol=1e-4)
    assert torch.allclose(there.covariance_matrix.cpu(), here.covariance_matrix, atol=1e-4)
    assert torch.allclose(read.to(DEVICE).posterior(rows()).mean, there.mean, atol=1e-6)


@pytest.mark.parametrize(("first", "second"), [(DEVICE, "cpu"), ("cpu", DEVICE), (DEVICE, DEVICE)])
def test_a_checkpoint_goes_on_on_another_device(first, second, tmp_path):
    for device, epochs in ((first, 2), (second, 4)):
        model, guide = declared()
        inference = lfm.SVI(guide, epochs=epochs, batch_size=64)
        options = {"seed": 0, "progress": False, "device": device, "checkpoint": tmp_path / "state"}
        fit = lfm.fit(model, rows(), inference, **options)
    assert [record["epoch"] for record in fit.history] == [1, 2, 3, 4]
    if first == second:
        whole = fitted(epochs=4)
        assert [r["bound"] for r in whole.history] == pytest.approx(
            [r["bound"] for r in fit.history], rel=1e-5
        )


def test_evaluation():
    fit = fitted(epochs=20)
    x = rows(seed=1)[:40]
    estimate = lfm.evaluate.log_likelihood(fit, x, draws=200, seed=0)
    fit.to("cpu")
    again = lfm.evaluate.log_likelihood(fit, x, draws=200, seed=0)
    # Two estimates of one number, from other noise: six standard errors of their difference, and a floor.
    assert float(estimate.mean) == pytest.approx(float(again.mean), abs=0.5)
    fit.to(DEVICE)
    assert float(fit.bound(x, draws=50, seed=0).mean()) < float(estimate.mean) + 0.5


def test_queries_of_rows():
    fit = fitted()
    x = rows()[:10].copy()
    x[0, 0] = np.nan
    draws = fit.sample_posterior(x, draws=7, seed=0)
    assert is_on_the_device(draws if isinstance(draws, torch.Tensor) else draws["z"])
    assert not torch.isnan(fit.reconstruct(x)).any()


def test_generation_repeats_by_its_seed():
    fit = fitted()
    one, two, other = (fit.model.sample(16, seed=seed)["x"] for seed in (1, 1, 2))
    assert is_on_the_device(one) and one.shape == (16, D)
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_the_state_of_the_process_is_left_alone():
    model, guide = declared()
    torch.set_flush_denormal(True)
    before = torch.cuda.get_rng_state()
    try:
        lfm.fit(model, rows(), lfm.SVI(guide, epochs=1), seed=0, progress=False, device=DEVICE)
        smallest = torch.tensor(torch.finfo(torch.float32).tiny)
        assert bool(smallest * 0.5 == 0), "the user's setting is undone"
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(before, torch.cuda.get_rng_state())


def test_a_device_that_is_not_there_is_refused_in_words():
    with pytest.raises(lfm.DeclarationError, match='device must be "auto" or one that torch has here'):
        fitted("cuda:99")
