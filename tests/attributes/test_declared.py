"""Attributes that a model declares: observed variables, columns, covariates, labels; a fit takes the place of attributes."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from torch.distributions import constraints

import pyro_lfm as lfm
from pyro_lfm import attributes

G = torch.Generator


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=G().manual_seed(seed))


@cache
def two_views():
    """x = z W + noise beside a = z v + noise, with known parameters, so that p(x | a) is a regression in closed form."""
    weight, slope = normal(2, 5, seed=1), torch.tensor([[1.0], [0.5]])

    def linear(matrix):
        return lfm.Linear(weight=lfm.Fixed(matrix.T), bias=lfm.Fixed(0.0))

    model = lfm.Model(
        z=lfm.StandardNormal(2),
        x=lfm.Gaussian(5, mean=linear(weight), covariance=lfm.Isotropic(lfm.Fixed(0.3)), given="z"),
        a=lfm.Gaussian(1, mean=linear(slope), covariance=lfm.Isotropic(lfm.Fixed(0.5)), given="z"),
    )
    rows = model.sample(300, seed=0)
    data = {"x": rows["x"], "a": rows["a"]}
    guide = lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), mean=lfm.Linear()))
    fit = lfm.fit(model, data, lfm.SVI(guide, epochs=60, learning_rate=2e-2), seed=0, progress=False)
    return fit, data, weight, slope


def test_rows_given_an_observed_number_have_the_mean_and_the_spread_of_the_conditional_distribution():
    fit, _, weight, slope = two_views()
    rows = attributes.generate(fit, {"a": 2.0}, 2000, seed=0)
    variance = float(slope.T @ slope) + 0.5
    mean = (weight.T @ slope).squeeze(1) * 2.0 / variance
    spread = weight.T @ (torch.eye(2) - slope @ slope.T / variance) @ weight
    assert torch.equal(rows["a"], torch.full((2000, 1), 2.0))
    error = (spread.diagonal() / 2000).sqrt()
    # Five standard errors for each of ten numbers, doubled as draws of one pool are correlated: false alarms below 1e-5.
    assert ((rows["x"].mean(0) - mean).abs() < 10 * error).all()
    assert (rows["x"].var(0) / spread.diagonal() - 1).abs().max() < 10 * (2 / 2000) ** 0.5


def test_an_edit_of_an_observed_number_moves_the_row_as_far_as_the_model_says():
    fit, data, weight, slope = two_views()
    rows = {name: value[:50] for name, value in data.items()}
    before = fit.posterior(rows).mean
    after = torch.linalg.lstsq(weight.T, attributes.edit(fit, rows, {"a": 1.0})["x"].T).solution.T
    # The shortest way to E[a | z] = 1 is along the slope.
    assert ((after @ slope).squeeze(1) - 1.0).abs().max() < 0.1
    across = torch.tensor([[-0.5], [1.0]])
    # Moves of up to 3, in units of the covariance of a thousand draws.
    assert ((after - before) @ across).abs().max() < 0.2


def test_a_number_far_from_the_fitted_ones_is_warned_of():
    fit, *_ = two_views()
    with pytest.warns(lfm.AttributeWarning, match="a = 30.0 lies .* standard deviations"):
        rows = attributes.generate(fit, {"a": 30.0}, 20)
    assert rows["x"].isfinite().all()


@cache
def labels_and_covariate():
    """Rows whose mean is that of their class, moved by a covariate, and spread along one more direction."""
    y, c, z = torch.arange(600) % 3, normal(600, seed=1), normal(600, 1, seed=2)
    x = 3 * torch.eye(3)[y] + c[:, None] + z * torch.tensor([1.0, -1.0, 0.0]) + 0.1 * normal(600, 3, seed=3)
    known = y.float()
    known[100:] = torch.nan
    model = lfm.Model(
        y=lfm.Categorical(3, logits=lfm.Fixed(0.0)),
        c=lfm.Covariate(),
        z=lfm.StandardNormal(1),
        x=lfm.Gaussian(3, mean=lfm.Linear(), given=("y", "c", "z")),
    )
    guide = lfm.Guide(
        model,
        y=lfm.Categorical(logits=lfm.MLP(16), given=("x", "c")),
        z=lfm.Gaussian(network=lfm.MLP(16), given=("x", "c", "y")),
    )
    objective = lfm.Penalised(lfm.ELBO(), lfm.Supervised(weight=100.0))
    svi = lfm.SVI(guide, objective=objective, epochs=60, learning_rate=2e-2)
    return lfm.fit(model, {"x": x, "y": known, "c": c}, svi, seed=0, progress=False), x, y, c, z


def test_rows_given_a_label_and_a_covariate_have_both():
    fit, *_ = labels_and_covariate()
    for label in range(3):
        rows = attributes.generate(fit, {"y": label, "c": 1.0}, 400, seed=0)
        assert set(rows) == {"x"}
        assert (rows["x"].mean(0) - (3 * torch.eye(3)[label] + 1.0)).abs().max() < 0.4


def test_covariates_that_are_not_asked_for_are_those_of_the_rows():
    fit, *_ = labels_and_covariate()
    # The third entry of class 0 is c alone.
    rows = attributes.generate(fit, {"y": 0}, 500, seed=0)["x"][:, 2]
    assert rows.std() == pytest.approx(1.0, abs=0.25)
    assert attributes.generate(fit.without_rows(), {"y": 0}, 500)["x"][:, 2].std() < 0.5


def test_an_edit_of_a_label_or_covariate_moves_the_row_by_its_effect_alone():
    fit, x, y, c, _ = labels_and_covariate()
    rows = {"x": x[:60], "c": c[:60]}
    other = attributes.edit(fit, rows, {"y": 2})["x"] - x[:60]
    assert (other - 3 * (torch.eye(3)[2] - torch.eye(3)[y[:60]])).abs().quantile(0.9) < 0.5
    more = attributes.edit(fit, rows, {"c": 2.0})["x"] - x[:60]
    assert (more - (2.0 - c[:60, None])).abs().quantile(0.9) < 0.5


@pytest.mark.slow
def test_attributes_are_fitted_beside_declared_ones():
    fit, x, _, c, z = labels_and_covariate()
    A = attributes.fit(fit, {"x": x, "c": c}, {"z": z[:, 0]}, seed=0)
    assert A.scores["z"] > 0.6
    rows = attributes.generate(A, {"z": 1.0}, 300, seed=0)["x"]
    labels = (rows - rows.mean(1, keepdim=True)).argmax(1)
    assert len(labels.unique()) == 3


def test_columns_of_a_table_are_attributes_in_their_own_units():
    rng = np.random.default_rng(0)
    size = rng.normal(size=300)
    frame = pd.DataFrame(
        {
            "weight in g": 4000 + 500 * size + 100 * rng.normal(size=300),
            "wing in mm": 200 + 10 * size + 3 * rng.normal(size=300),
            "sex": np.where(size + 0.3 * rng.normal(size=300) > 0, "male", "female"),
        }
    )
    table = lfm.heterogeneous(frame)
    model = lfm.Model(z=lfm.StandardNormal(1), **table)
    fit = lfm.fit(
        model,
        table.data,
        lfm.SVI(lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(16))), epochs=100, learning_rate=2e-2),
        seed=0,
        progress=False,
    )
    rows = fit.table.decode(attributes.generate(fit, {"weight in g": 5000.0}, 200, seed=0))
    assert np.allclose(rows["weight in g"], 5000.0)
    assert rows["wing in mm"].mean() == pytest.approx(219, abs=5) and (rows["sex"] == "male").mean() > 0.9
    women = fit.table.decode(attributes.generate(fit, {"sex": "female"}, 200, seed=0))
    assert (women["sex"] == "female").all() and women["weight in g"].mean() < 3900
    edited = fit.table.decode(attributes.edit(fit, frame[:20], {"sex": "male"}))
    assert (edited["sex"] == "male").all() and edited["weight in g"].mean() > 4000
    with pytest.raises(lfm.DataError, match="'sexx'.*did you mean sex"):
        attributes.generate(fit, {"sexx": "male"}, 2)
    with pytest.raises(lfm.DataError, match="got 'man'"):
        attributes.generate(fit, {"sex": "man"}, 2)


@pytest.mark.slow
def test_a_positive_latent_is_drawn_and_edited_on_its_support():
    model = lfm.Model(
        z=lfm.Gamma(2, concentration=lfm.Fixed(2.0), rate=lfm.Fixed(1.0)),
        x=lfm.Gaussian(4, mean=lfm.Linear(), given="z"),
        dose=lfm.Covariate(support=constraints.positive),
        a=lfm.Gaussian(1, mean=lfm.Linear(), given=("z", "dose")),
    )
    rows = {**model.sample(100, seed=0), "dose": torch.ones(100)}
    data = {name: rows[name] for name in ("x", "a", "dose")}
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    fit = lfm.fit(model, data, lfm.SVI(guide, epochs=3), seed=0, progress=False)
    target = float(rows["a"].median())
    assert attributes.generate(fit, {"a": target, "dose": 2.0}, 50)["x"].isfinite().all()
    assert (
        attributes.edit(fit, {name: value[:5] for name, value in data.items()}, {"a": target})["x"]
        .isfinite()
        .all()
    )
    A = attributes.fit(fit, None, {"first": rows["z"][:, 0]}, seed=0)
    latents, _ = A.draw_latents({"first": float(rows["z"][:, 0].median())}, 50)
    assert (latents > 0).all() and (A.edit_latents(latents, {"first": 1.0}) > 0).all()
    with pytest.raises(lfm.DataError, match="dose must be a number in its support"):
        attributes.generate(fit, {"dose": -1.0}, 3)
