"""Rotations, communalities, indices of fit and scores against factor_analyzer (recorded) and statsmodels, to 1e-6.

``factor_analyzer.json`` holds the answers of factor_analyzer 0.5.1, which needs an environment of its own;
``record_peers.py`` makes the file. With its interpreter in FACTOR_ANALYZER_PYTHON a slow test asks it again.
"""

import json
import os

import numpy as np
import pytest
import torch
from peer_data import data_sets
from record_peers import RECORDED, ask
from statsmodels.datasets import fair
from statsmodels.multivariate.factor import Factor
from statsmodels.multivariate.factor_rotation import rotate_factors

import pyro_lfm as lfm
from pyro_lfm import factor_analysis

ANSWERS = json.loads(RECORDED.read_text(encoding="utf-8"))["answers"]
DATA = data_sets()
NAMES = list(DATA)
ROTATIONS = [
    f"{method}, kaiser={kaiser}"
    for method in ("varimax", "quartimax", "oblimin", "promax")
    for kaiser in (True, False)
]


def correlations_of(name):
    return np.corrcoef(DATA[name][0].T)


def matched(ours, theirs):
    """The largest differences of loadings and of factor correlations, with factors in one order and of one sign."""
    loadings, between = (np.asarray(part, dtype=float) for part in theirs)
    inner = ours.loadings.T @ loadings
    places = np.abs(inner).argmax(0)
    assert sorted(places) == list(range(len(places)))
    signs = np.sign(inner[places, range(len(places))])
    turned = ours.correlations[np.ix_(places, places)] * np.outer(signs, signs)
    return np.abs(ours.loadings[:, places] * signs - loadings).max(), np.abs(turned - between).max()


@pytest.mark.parametrize("rotation", ROTATIONS)
@pytest.mark.parametrize("name", NAMES)
def test_rotations_are_those_of_factor_analyzer(name, rotation):
    answer = ANSWERS[name]
    method, kaiser = rotation.split(", kaiser=")
    ours = factor_analysis.rotate(answer["loadings"], method, kaiser=kaiser == "True")
    loadings, between = answer["rotations"][rotation]
    between = np.eye(len(loadings[0])) if between is None else between
    assert max(matched(ours, (loadings, between))) < 1e-6


@pytest.mark.parametrize("kaiser", [True, False])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("method", "theirs"),
    [("varimax", ("varimax",)), ("quartimax", ("quartimax",)), ("oblimin", ("oblimin", 0, "oblique"))],
)
def test_rotations_are_those_of_statsmodels(name, method, theirs, kaiser):
    """statsmodels does not normalise: rows get length one here."""
    loadings = np.array(ANSWERS[name]["loadings"])
    lengths = np.sqrt((loadings**2).sum(1))[:, None] if kaiser else 1.0
    rotated, turn = rotate_factors(loadings / lengths, *theirs, tol=1e-7, max_tries=1000)
    ours = factor_analysis.rotate(loadings, method, kaiser=kaiser)
    assert max(matched(ours, (rotated * lengths, turn.T @ turn))) < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_indices_and_communalities_are_those_of_factor_analyzer(name):
    answer = ANSWERS[name]
    rows = len(DATA[name][0])
    indices = factor_analysis.fit_indices(
        answer["loadings"], answer["uniquenesses"], correlations_of(name), rows
    )
    statistic, df, p_value = answer["sufficiency"]
    assert indices.df == df and indices.p_value == pytest.approx(p_value, abs=1e-6)
    # It takes the best loadings for the uniquenesses, and not its own: no difference at a maximum.
    assert indices.chi_squared == pytest.approx(statistic, rel=1e-6)
    assert np.allclose((np.array(answer["loadings"]) ** 2).sum(1), answer["communalities"], atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_fits_are_as_likely_as_those_of_the_peers(name):
    """In nats per row, and equal to 1e-6 where the peer has reached the maximum."""
    rows, factors = DATA[name]
    answer, correlations = ANSWERS[name], correlations_of(name)
    model = lfm.Model(
        z=lfm.StandardNormal(factors), x=lfm.Gaussian(rows.shape[1], mean=lfm.Linear())
    ).double()
    fit = lfm.fit(model, rows, lfm.EM(), seed=0, progress=False)
    ours = factor_analysis.solution(fit)
    own = float(fit.log_likelihood().mean()) + np.log(rows.std(0)).sum()
    theirs = factor_analysis.fit_indices(answer["loadings"], answer["uniquenesses"], correlations, len(rows))
    assert own == pytest.approx(theirs.log_likelihood / len(rows), abs=1e-6)
    assert np.allclose(ours.communalities, answer["communalities"], atol=1e-4)
    peer = Factor(corr=correlations, n_factor=factors, nobs=len(rows), method="ml").fit(start=None)
    again = factor_analysis.fit_indices(peer.loadings, peer.uniqueness, correlations, len(rows))
    # statsmodels' likelihood is −(ln |Σ| + tr Σ⁻¹R) / 2D.
    scaled = peer.model.loglike((peer.loadings, peer.uniqueness)) * rows.shape[1]
    constant = 0.5 * rows.shape[1] * np.log(2 * np.pi)
    assert again.log_likelihood / len(rows) == pytest.approx(scaled - constant, abs=1e-6)
    assert own >= again.log_likelihood / len(rows) - 1e-6
    if peer.mle_retvals.success:
        assert own == pytest.approx(again.log_likelihood / len(rows), abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_the_peers(name):
    """At a maximum the regression with the sample's correlations is that with the model's."""
    rows, factors = DATA[name]
    answer, correlations = ANSWERS[name], correlations_of(name)
    loadings, noise = np.array(answer["loadings"]), np.array(answer["uniquenesses"])
    weights = factor_analysis.score_weights(loadings, noise, covariance=correlations)
    standard = (rows[:5] - rows.mean(0)) / rows.std(0)
    assert np.allclose(standard @ weights, answer["scores"], atol=1e-6)
    peer = Factor(corr=correlations, n_factor=factors, nobs=len(rows), method="ml").fit()
    peer.loadings, peer.communality, peer.uniqueness = loadings, 1 - noise, noise
    for method in ("regression", "bartlett"):
        covariance = correlations if method == "regression" else None
        ours = factor_analysis.score_weights(loadings, noise, method=method, covariance=covariance)
        assert np.allclose(ours, peer.factor_score_params(method), atol=1e-6)


@pytest.mark.slow
def test_factor_analyzer_gives_what_was_recorded(tmp_path):
    python = os.environ.get("FACTOR_ANALYZER_PYTHON")
    if not python:
        pytest.skip("FACTOR_ANALYZER_PYTHON names no interpreter with factor_analyzer")
    ask(python, tmp_path / "answers.json")
    now = json.loads((tmp_path / "answers.json").read_text())["answers"]
    for name in NAMES:
        assert np.allclose(now[name]["loadings"], ANSWERS[name]["loadings"], atol=1e-6)
        assert np.allclose(now[name]["sufficiency"], ANSWERS[name]["sufficiency"], rtol=1e-6)


def test_torch_and_numpy_give_one_answer():
    answer, correlations = ANSWERS["wine"], correlations_of("wine")
    loadings, noise = (torch.tensor(answer[key], dtype=torch.float64) for key in ("loadings", "uniquenesses"))
    one = factor_analysis.fit_indices(loadings, noise, correlations, 178)
    assert one == factor_analysis.fit_indices(answer["loadings"], answer["uniquenesses"], correlations, 178)


def test_a_heywood_case_is_more_likely_than_where_factor_analyzer_stops():
    """Years married and age: its uniquenesses end at 0.005, our floor is a millionth of the variance."""
    rows = fair.load_pandas().data.to_numpy(dtype=float)
    correlations = np.corrcoef(rows.T)
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(9, mean=lfm.Linear())).double()
    with pytest.warns(lfm.ScaleFloorWarning):
        fit = lfm.fit(model, rows, lfm.EM(), seed=0, progress=False)
        ours = factor_analysis.solution(fit)
    assert ours.heywood == (2,)
    bounded = ours.uniquenesses.clip(lower=0.005)
    theirs = factor_analysis.fit_indices(ours.loadings, bounded, correlations, len(rows))
    assert ours.fit_indices().log_likelihood > theirs.log_likelihood - len(rows) * np.log(rows.std(0)).sum()
