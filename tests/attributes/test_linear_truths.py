"""Generated and edited rows of a linear Gaussian model, where everything is known in closed form."""

import pytest
import torch
from attribute_cases import factors_of, linear

from pyro_lfm import attributes

# Attributes are a = z₁ and b = 0.6 z₁ + 0.8 z₂, c says whether z₃ > 0. So z given a = t is known:
# z₁ = t, z₂ and z₃ standard normal, and with b = s also z₂ = (s − 0.6 t) / 0.8.
# Tests of means and variances of 1,000 draws allow five standard errors (false alarms: 1e-6 each) and 0.1 for what
# 800 rows leave open about density and readers.


def test_scores_are_those_of_attributes_that_follow_from_the_factors():
    A, *_ = linear()
    assert A.kinds == {"a": "number", "b": "number", "c": "binary"}
    assert A.scores["a"] > 0.98 and A.scores["b"] > 0.98 and A.scores["c"] > 0.98
    assert all(0 < error < 0.02 for error in A.errors.values())


def test_directions_have_the_angle_of_the_attributes():
    A, *_ = linear()
    assert A.cosines[0, 1] == pytest.approx(0.6, abs=0.06)
    assert abs(A.cosines[0, 2]) < 0.15
    assert A.shared["a"] == pytest.approx(0.36, abs=0.1)
    assert A.directions.shape == (3, 3)


def test_draws_given_one_number_are_those_of_the_conditional_distribution():
    A, _, _, weight = linear()
    z = factors_of(attributes.generate(A, {"a": 1.0}, 1000, seed=1)["x"], weight)
    assert z[:, 0].mean() == pytest.approx(1.0, abs=0.1)
    assert z[:, 0].std() < 0.25
    assert z[:, 1:].mean(0).abs().max() < 5 / 1000**0.5 + 0.1
    assert (z[:, 1:].var(0) - 1).abs().max() < 5 * (2 / 1000) ** 0.5 + 0.1


def test_draws_given_two_correlated_numbers_meet_both():
    A, _, _, weight = linear()
    z = factors_of(attributes.generate(A, {"a": 1.0, "b": -0.5}, 1000, seed=1)["x"], weight)
    assert z[:, 0].mean() == pytest.approx(1.0, abs=0.1)
    assert z[:, 1].mean() == pytest.approx((-0.5 - 0.6) / 0.8, abs=0.15)
    assert z[:, 2].var() == pytest.approx(1.0, abs=5 * (2 / 1000) ** 0.5 + 0.1)


def test_draws_given_a_label_have_it_and_its_half_normal():
    A, _, _, weight = linear()
    z = factors_of(attributes.generate(A, {"c": True}, 1000, seed=1)["x"], weight)
    assert (z[:, 2] > 0).double().mean() > 0.97
    assert z[:, 2].mean() == pytest.approx((2 / torch.pi) ** 0.5, abs=0.2)
    assert (z[:, :2].var(0) - 1).abs().max() < 5 * (2 / 1000) ** 0.5 + 0.1


def test_an_edit_adds_what_regression_says_and_keeps_the_residuals():
    A, x, _, weight = linear()
    rows = x[:200]
    before = factors_of(rows, weight)
    after = factors_of(attributes.edit(A, rows, {"a": 0.5})["x"], weight)
    # b stays, and so do z₃ and whatever else: z₂ moves against z₁.
    assert (after[:, 0] - 0.5).abs().max() < 0.25
    moved = (0.6 * after[:, 0] + 0.8 * after[:, 1]) - (0.6 * before[:, 0] + 0.8 * before[:, 1])
    assert moved.abs().quantile(0.9) < 0.2
    assert (after[:, 2] - before[:, 2]).abs().quantile(0.9) < 0.25


def test_an_edit_of_a_label_changes_the_label_alone():
    A, x, _, weight = linear()
    rows = x[:200]
    before = factors_of(rows, weight)
    after = factors_of(attributes.edit(A, rows, {"c": False})["x"], weight)
    assert (after[:, 2] < 0).double().mean() > 0.97
    assert (after[:, :2] - before[:, :2]).abs().quantile(0.9) < 0.25


def test_one_seed_repeats_and_another_does_not():
    A, *_ = linear()
    one, same, other = (attributes.generate(A, {"a": 1.0}, 20, seed=seed)["x"] for seed in (3, 3, 4))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_latents_are_read_drawn_and_edited_in_the_order_of_the_decoder():
    A, *_ = linear()
    latents, message = A.draw_latents({"a": 1.0, "c": True}, 7)
    assert latents.shape == (7, 3) and message is None
    read = A.read(A.edit_latents(latents, {"a": -1.0}))
    assert read["a"].shape == (7,) and (read["a"] + 1).abs().max() < 0.2
    assert bool((read["c"] > 0.5).all())
