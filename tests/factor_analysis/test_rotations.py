"""Rotations: what they minimise, what they keep, and loadings that cannot be rotated."""

import numpy as np
import pandas as pd
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm import factor_analysis
from pyro_lfm.factor_analysis.rotation import METHODS, rotate


def some_loadings(variables=9, factors=3, seed=0):
    """Loadings in clusters with some noise, turned at random."""
    random = np.random.default_rng(seed)
    loadings = random.normal(size=(variables, factors)) * 0.2
    loadings[np.arange(variables), np.arange(variables) % factors] += 0.6
    return loadings @ np.linalg.qr(random.normal(size=(factors, factors)))[0]


def criterion(method, loadings):
    squares = loadings**2
    if method == "oblimin":
        return (squares * (squares.sum(1, keepdims=True) - squares)).sum() / 4
    return -(squares * (squares - (squares.mean(0) if method == "varimax" else 0))).sum() / 4


@pytest.mark.parametrize("method", [None, *METHODS])
@pytest.mark.parametrize("kaiser", [True, False])
def test_a_rotation_keeps_the_covariance_and_variances_of_one(method, kaiser):
    given = some_loadings()
    done = rotate(given, method, kaiser=kaiser)
    assert np.allclose(done.loadings @ done.correlations @ done.loadings.T, given @ given.T, atol=1e-12)
    assert np.allclose(np.diag(done.correlations), 1, atol=1e-12)
    assert np.allclose(done.loadings, given @ done.transformation, atol=1e-12)
    assert np.allclose(done.structure, done.loadings @ done.correlations)


@pytest.mark.parametrize("method", ["varimax", "quartimax", "oblimin"])
def test_no_small_turn_lowers_the_criterion(method):
    """200 random turns of 0.02 rad; in the oblique case each factor is turned on its own and keeps variance one."""
    random = np.random.default_rng(1)
    done = rotate(some_loadings(), method, kaiser=False)
    best = criterion(method, done.loadings)
    for _ in range(200):
        if method == "oblimin":
            factors = np.linalg.cholesky(done.correlations).T
            factors = factors + 0.02 * random.normal(size=factors.shape)
            factors /= np.linalg.norm(factors, axis=0)
            base = done.loadings @ np.linalg.cholesky(done.correlations)
            near = base @ np.linalg.inv(factors).T
        else:
            skew = 0.02 * random.normal(size=(3, 3))
            near = done.loadings @ np.linalg.qr(np.eye(3) + skew - skew.T)[0]
        assert criterion(method, near) >= best - 1e-12


@pytest.mark.parametrize("method", METHODS)
def test_the_result_depends_neither_on_the_start_nor_on_units(method):
    given = some_loadings(seed=2)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    expected = rotate(given, method).loadings
    assert np.allclose(rotate(given @ turn, method).loadings, expected, atol=1e-10)
    units = np.geomspace(1e-3, 1e3, len(given))[:, None]
    expected = rotate(given, method, order=False).loadings
    assert np.allclose(rotate(given * units, method, order=False).loadings / units, expected, atol=1e-10)


def test_factors_come_by_their_sum_of_squares_with_positive_sums():
    done = rotate(some_loadings(), "oblimin")
    squares = np.diag(done.correlations @ done.loadings.T @ done.loadings)
    assert (np.diff(squares) <= 0).all() and (done.loadings.sum(0) > 0).all()
    assert not np.allclose(rotate(-some_loadings(), "oblimin", order=False).loadings, done.loadings)


def test_several_starts_end_lower_where_there_are_several_minima():
    given = np.random.default_rng(1).normal(size=(24, 9))
    one, four = (rotate(given, "oblimin", kaiser=False, starts=starts).loadings for starts in (1, 4))
    assert criterion("oblimin", four) < criterion("oblimin", one) - 0.1


def test_one_factor_and_an_empty_row():
    assert np.allclose(rotate([[-0.5], [-0.7]], "oblimin").loadings, [[0.5], [0.7]])
    given = np.vstack([some_loadings(), np.zeros(3)])
    assert np.allclose(rotate(given, "promax").loadings[-1], 0)


def test_a_tensor_and_a_frame_serve_as_an_array_does():
    given = some_loadings()
    expected = rotate(given, "varimax").loadings
    assert np.array_equal(rotate(torch.tensor(given), "varimax").loadings, expected)
    assert np.array_equal(rotate(pd.DataFrame(given), "varimax").loadings, expected)


def test_a_criterion_without_a_minimum_is_told():
    given = np.random.default_rng(3).normal(size=(9, 3))
    with pytest.warns(lfm.ConvergenceWarning, match="oblimin criterion has no minimum .*: use gamma=0"):
        rotate(given, "oblimin", gamma=1.0)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((some_loadings(), "verimax"), lfm.DeclarationError, 'method must be None or one of "varimax"'),
        (([0.5, 0.7], "varimax"), lfm.ShapeError, r"loadings must have shape \(D, K\); got \(2,\)"),
        (([[0.5, np.nan]], "varimax"), lfm.DataError, "loadings must be finite"),
        (
            (np.ones((4, 2)), "varimax"),
            lfm.DataError,
            "2 independent columns to be rotated; got 1: fit fewer",
        ),
        (([["a", "b"]], "varimax"), lfm.DataError, "loadings must be numbers"),
    ],
)
def test_what_cannot_be_rotated_is_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        rotate(*arguments)


@pytest.mark.parametrize("option", [{"power": 1}, {"gamma": 2}, {"starts": 0}])
def test_options_out_of_range_are_refused(option):
    with pytest.raises(lfm.DeclarationError, match=next(iter(option))):
        rotate(some_loadings(), "oblimin", **option)


@pytest.mark.parametrize(
    "wrong", [3, object(), np.array(["a", "b"]), pd.DataFrame({"a": ["x"]}), [[1, 2], [3]], None, {}]
)
def test_what_is_no_argument_is_refused_in_a_sentence(wrong):
    calls = [
        lambda: factor_analysis.solution(wrong),
        lambda: factor_analysis.number_of_factors(wrong),
        lambda: factor_analysis.rotate(wrong, "varimax"),
        lambda: factor_analysis.fit_indices([[0.5], [0.5]], wrong, np.eye(2), 100),
        lambda: factor_analysis.score_weights([[0.5], [0.5]], wrong),
    ]
    calls += [lambda: factor_analysis.rotate(some_loadings(), wrong)] * (wrong is not None)
    for call in calls:
        with pytest.raises((lfm.DataError, lfm.DeclarationError)) as caught:
            call()
        assert "\n" not in str(caught.value)
