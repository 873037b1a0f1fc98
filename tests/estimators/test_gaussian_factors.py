"""FactorAnalysis against scikit-learn's, against densities by SciPy, and against itself in other words."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from scipy.stats import multivariate_normal
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.decomposition import FactorAnalysis as Peer

import pyro_lfm as lfm
from pyro_lfm.estimators import FactorAnalysis

WINE = load_wine().data


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("load, factors", [(load_wine, 2), (load_diabetes, 3), (load_breast_cancer, 1)])
def test_it_is_at_least_as_likely_as_scikit_learn(load, factors):
    rows = load().data
    peer = Peer(factors, svd_method="lapack", tol=1e-8, max_iter=1000).fit(rows)
    ours = FactorAnalysis(factors, random_state=0).fit(rows)
    assert ours.score(rows) >= peer.score(rows) - 1e-9
    assert ours.loglike_[-1] / len(rows) == pytest.approx(ours.score(rows), abs=1e-8)


def test_missing_entries_are_integrated_out():
    rows = WINE[:60].copy()
    rows[np.random.default_rng(0).random(rows.shape) < 0.2] = np.nan
    fitted = FactorAnalysis(2, random_state=0, max_iter=20).fit(rows)
    covariance, seen = fitted.get_covariance(), ~np.isnan(rows[3])
    exact = multivariate_normal(fitted.mean_[seen], covariance[np.ix_(seen, seen)]).logpdf(rows[3, seen])
    assert fitted.score_samples(rows)[3] == pytest.approx(exact, rel=1e-8)
    plain = FactorAnalysis(1, random_state=0).fit(WINE)
    assert np.allclose(plain.get_precision() @ plain.get_covariance(), np.eye(13), atol=1e-6)


@pytest.mark.parametrize("gaps", [False, True])
def test_a_weight_is_a_number_of_rows(gaps):
    rows = WINE[:50].copy()
    if gaps:
        rows[::7, 3] = np.nan
    weights = np.arange(50) % 3
    weighted = FactorAnalysis(1, random_state=0).fit(rows, sample_weight=weights)
    repeated = FactorAnalysis(1, random_state=0).fit(rows.repeat(weights, 0))
    assert np.allclose(weighted.get_covariance(), repeated.get_covariance(), rtol=1e-5)


def test_partial_fit_is_fit_on_all_rows():
    whole, parts = FactorAnalysis(2, random_state=0).fit(WINE), FactorAnalysis(2, random_state=0)
    for part in np.array_split(WINE, 3):
        parts.partial_fit(part)
    assert np.allclose(parts.components_, whole.components_, rtol=1e-6, atol=1e-9)
    with pytest.raises(lfm.DataError, match="partial_fit is exact for"):
        parts.partial_fit(np.full((2, 13), np.nan))


@pytest.mark.parametrize("rotation", ["varimax", "oblimin", "promax"])
def test_a_rotation_keeps_the_covariance(rotation):
    plain = FactorAnalysis(3, random_state=0).fit(WINE)
    turned = FactorAnalysis(3, rotation=rotation, random_state=0).fit(WINE)
    assert np.allclose(turned.get_covariance(), plain.get_covariance(), rtol=1e-8)
    assert turned.score(WINE) == pytest.approx(plain.score(WINE), abs=1e-8)
    assert not np.allclose(turned.components_, plain.components_)


def test_containers_types_and_names():
    frame = pd.DataFrame(WINE).add_prefix("c").astype("Float64")
    frame.iloc[0, 0] = pd.NA
    fitted = FactorAnalysis(2, random_state=0, max_iter=10).fit(frame)
    assert list(fitted.feature_names_in_[:2]) == ["c0", "c1"]
    assert list(fitted.get_feature_names_out()) == ["factoranalysis0", "factoranalysis1"]
    table = pl.DataFrame(WINE)
    assert type(FactorAnalysis(1).set_output(transform="polars").fit_transform(table)) is pl.DataFrame
    single = FactorAnalysis(1, random_state=0).fit(WINE.astype(np.float32))
    assert single.transform(WINE.astype(np.float32)).dtype == single.components_.dtype == np.float32
    counts = sparse.random(80, 5, density=0.4, random_state=0, format="csr")
    dense = FactorAnalysis(1, random_state=0).fit(counts.toarray())
    assert np.array_equal(dense.components_, FactorAnalysis(1, random_state=0).fit(counts).components_)


def test_the_number_of_factors_is_that_of_simulated_rows():
    random = np.random.default_rng(0)
    rows = random.normal(size=(400, 3)) @ random.normal(size=(3, 12)) + random.normal(size=(400, 12))
    assert FactorAnalysis(random_state=0).fit(rows).n_components_ == 3
    assert FactorAnalysis(method="vb", tol=1e-7, random_state=0).fit(rows).n_components_ == 3


def test_draws_have_the_covariance_of_the_model():
    fitted = FactorAnalysis(1, noise="isotropic", random_state=0).fit(WINE[:, :3])
    drawn = np.cov(fitted.sample(40_000), rowvar=False)
    # 40,000 draws: a variance is off by 0.7%; 6% is more than eight standard errors.
    assert np.allclose(np.diag(drawn), np.diag(fitted.get_covariance()), rtol=0.06)


def test_wrong_calls_are_told_in_words():
    with pytest.raises(
        lfm.DeclarationError, match="n_components must be at most the number of columns, 13; got 14"
    ):
        FactorAnalysis(14).fit(WINE)
    gap = WINE[:9].copy()
    gap[:, 2] = np.nan
    with pytest.raises(lfm.DataError, match="got none in columns 2"):
        FactorAnalysis(1).fit(gap)
    with pytest.raises(lfm.DataError, match="Z must have 1 columns"):
        FactorAnalysis(1).fit(WINE).inverse_transform(WINE)


def test_columns_of_a_frame_that_cannot_be_fitted_are_named():
    """Polars frames have no duplicates. A text that is a number is converted, as scikit-learn does."""
    frame = pd.DataFrame(WINE[:30, :4], columns=list("abcd"))
    for estimator in (FactorAnalysis(1), lfm.estimators.LatentImputer(random_state=0)):
        with pytest.raises(lfm.DataError, match="X must have each column once; got 'a' twice: rename"):
            estimator.fit(pd.concat([frame, frame[["a"]]], axis=1))
    with pytest.raises(lfm.DataError, match="in column 'e': leave it out, or give a column of 0 and 1"):
        FactorAnalysis(1).fit(frame.assign(e=["red", "blue"] * 15))
    with pytest.raises(
        lfm.DataError, match=r"in column 'e': it holds numbers but for 1 of 30 .*'about 3' in row 0"
    ):
        FactorAnalysis(1).fit(frame.assign(e=["about 3", *map(str, range(29))]))
    FactorAnalysis(1, random_state=0).fit(frame.assign(a=frame["a"].astype(str)))
