"""LatentImputer: known answers, cells that stay as they are, labels, draws, intervals, and bad input."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks

from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.estimators import FactorMixture, LatentImputer
from pyro_lfm.warning_kinds import EmptyColumnWarning

LOADING, NOISE = np.array([1.0, -2.0, 0.5, 3.0]), np.array([0.5, 1.0, 0.2, 1.5])


def one_factor(rows, seed=0, share=0.3):
    """Rows of a one-factor model, whole and with gaps."""
    rng = np.random.default_rng(seed)
    whole = rng.normal(size=(rows, 1)) * LOADING + NOISE**0.5 * rng.normal(size=(rows, 4)) + [0, 5, 100, -1]
    return whole, np.where(rng.random(whole.shape) < share, np.nan, whole)


def conditional(gaps):
    """E[x | observed entries] under the true model."""
    mean, covariance = np.array([0, 5, 100, -1]), np.outer(LOADING, LOADING) + np.diag(NOISE)
    out = gaps.copy()
    for row in out:
        missing = np.isnan(row)
        seen = ~missing
        weights = np.linalg.solve(covariance[np.ix_(seen, seen)], covariance[np.ix_(seen, missing)])
        row[missing] = mean[missing] + (row[seen] - mean[seen]) @ weights
    return out


def mixed(rows=150, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=rows)
    frame = pd.DataFrame(
        {
            "height": (170 + 8 * z + rng.normal(size=rows)).astype(np.float32),
            "age": pd.array((40 + 10 * z + 3 * rng.normal(size=rows)).round().astype(int), dtype="Int64"),
            "size": pd.Categorical(np.where(z > 0.4, "large", np.where(z < -0.4, "small", "medium"))),
            "member": pd.array(z + 0.3 * rng.normal(size=rows) > 0, dtype="boolean"),
            "town": np.where(z > 0, "north", "south").astype(object),
        },
        index=[f"row {k}" for k in range(rows)],
    )
    return frame, frame.mask(rng.random(frame.shape) < 0.2)


def test_missing_numbers_are_the_conditional_means_of_the_true_model():
    """The parameters of 3,000 rows are known to about 2%, in the units of each column."""
    _, gaps = one_factor(3000)
    filled = LatentImputer("linear", random_state=0).fit_transform(gaps)
    off = (filled - conditional(gaps)) / np.nanstd(gaps, 0)
    assert np.sqrt(np.mean(off[np.isnan(gaps)] ** 2)) < 0.05


def test_intervals_cover_and_draws_agree_with_the_mean():
    whole, gaps = one_factor(1500, seed=1)
    imputer = LatentImputer("linear", random_state=0).fit(gaps)
    missing = np.isnan(gaps)
    low, high = imputer.interval(gaps, level=0.8, draws=300)
    inside = ((whole >= low) & (whole <= high))[missing]
    # About 1,800 entries: the standard error is 0.0095. Five of them: a false alarm in 10⁶ runs.
    assert abs(inside.mean() - 0.8) < 0.05
    assert np.array_equal(low[~missing], whole[~missing]) and np.array_equal(high[~missing], whole[~missing])
    draws = np.stack(imputer.sample(gaps, draws=400))
    off = (draws.mean(0) - imputer.transform(gaps))[missing] / (draws.std(0)[missing] / 20)
    assert np.abs(off).max() < 5.5  # 1,800 standard normals: a false alarm in 10⁴ runs


def test_default_beats_means_where_rows_cluster():
    rng = np.random.default_rng(0)
    whole = np.array([[4.0, -4.0, 0.0], [-4.0, -4.0, 4.0], [0.0, 5.0, -4.0]])[rng.integers(3, size=300)]
    whole = whole + 0.4 * rng.normal(size=whole.shape)
    gaps = np.where(rng.random(whole.shape) < 0.2, np.nan, whole)
    imputer = LatentImputer(random_state=0).fit(gaps)
    error = np.abs(imputer.transform(gaps) - whole)[np.isnan(gaps)]
    assert np.median(error) < 0.6  # the mean of a column misses by about 4
    assert len(imputer.models_) == len(imputer.weights_) and abs(imputer.weights_.sum() - 1) < 1e-12


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_observed_numbers_stay_to_the_last_bit(dtype):
    _, gaps = one_factor(80, seed=2)
    gaps = gaps.astype(dtype)
    filled = LatentImputer("linear", random_state=0).fit_transform(gaps)
    seen = ~np.isnan(gaps)
    assert filled.dtype == dtype and not np.isnan(filled).any()
    assert filled[seen].tobytes() == gaps[seen].tobytes()


def test_mixed_frame_comes_back_as_it_was_without_gaps():
    whole, gaps = mixed()
    imputer = LatentImputer(random_state=0).fit(gaps)
    filled = imputer.transform(gaps)
    assert list(filled) == list(gaps) and filled.index.equals(gaps.index)
    assert (filled.dtypes == gaps.dtypes).all() and not filled.isna().any(axis=None)
    for name in gaps:
        seen = gaps[name].notna()
        assert filled.loc[seen, name].equals(gaps.loc[seen, name])
        missing = ~seen
        if name in ("size", "member", "town"):
            right = (filled.loc[missing, name] == whole.loc[missing, name]).mean()
            assert right > 0.7, f"{name}: {right}"
    assert list(imputer.get_feature_names_out()) == list(gaps)
    shares = imputer.label_probabilities(gaps)
    assert list(shares) == ["size", "member", "town"]
    for name, table in shares.items():
        assert np.allclose(table.sum(axis=1), 1) and (table.to_numpy() >= 0).all()
        seen = gaps[name].notna()
        assert (table.loc[seen].idxmax(axis=1) == gaps.loc[seen, name]).all()
    low, high = imputer.interval(gaps, draws=40)
    assert (low["height"] <= high["height"]).all() and (low["size"] == high["size"]).all()
    one, other = imputer.sample(gaps, draws=2)
    assert (one.dtypes == gaps.dtypes).all() and not one.equals(other)


def test_a_label_that_fit_has_not_seen_stays():
    _, gaps = mixed()
    new = gaps.head(4).copy()
    new["town"] = ["west", None, "north", "south"]
    filled = LatentImputer("linear", random_state=0).fit(gaps).transform(new)
    assert filled["town"].iloc[0] == "west" and filled["town"].iloc[1] in ("north", "south")


def test_polars_frames_come_back_as_polars():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(
        {
            "a": [1.0, None, 3.0, 4.0, float("nan")] * 8,
            "n": [1, 2, None, 4, 5] * 8,
            "l": ["x", "y", None, "y", "x"] * 8,
        }
    )
    filled = LatentImputer("linear", random_state=0).fit(frame).transform(frame)
    assert filled.schema == frame.schema and filled.null_count().sum_horizontal()[0] == 0
    assert not filled["a"].is_nan().any() and filled["l"][1] == "y" and filled["n"][0] == 1


def test_one_seed_repeats_and_the_pickle_holds_no_rows():
    _, gaps = one_factor(100, seed=3)
    one, other = (LatentImputer(random_state=7).fit(gaps) for _ in range(2))
    assert one.transform(gaps).tobytes() == other.transform(gaps).tobytes()
    assert one.sample(gaps, 3)[2].tobytes() == other.sample(gaps, 3)[2].tobytes()
    own = FactorMixture(1, 3, "normal scores")
    sizes = [
        len(pickle.dumps(LatentImputer(own, random_state=0).fit(one_factor(rows)[1]))) for rows in (400, 4000)
    ]
    assert abs(sizes[1] - sizes[0]) < 1000 and sizes[1] < 100_000
    again = pickle.loads(pickle.dumps(one))
    assert again.transform(gaps).tobytes() == one.transform(gaps).tobytes()


def test_answers_do_not_depend_on_the_units():
    _, gaps = one_factor(120, seed=8)
    unit, shift = np.array([1.0, 1e3, 1e-4, 7.0]), np.array([0.0, -2e5, 3.0, 40.0])
    models = [FactorMixture(), FactorMixture(1, 3, "normal scores"), FactorMixture(2, 2)]
    filled, moved = (LatentImputer(models, random_state=0).fit(rows) for rows in (gaps, gaps * unit + shift))
    assert np.allclose(filled.weights_, moved.weights_, atol=1e-6)
    off = (moved.transform(gaps * unit + shift) - shift) / unit - filled.transform(gaps)
    assert np.abs(off / np.nanstd(gaps, 0)).max() < 1e-5


@pytest.mark.parametrize("keep", [False, True])
def test_empty_columns_are_treated_as_by_simple_imputer(keep):
    _, gaps = one_factor(60, seed=4)
    gaps[:, 2] = np.nan
    frame = pd.DataFrame(gaps, columns=list("abcd"))
    imputer = LatentImputer("linear", keep_empty_features=keep, random_state=0)
    if keep:
        filled = imputer.fit(frame).transform(frame)
        assert (filled["c"] == 0).all()
    else:
        with pytest.warns(EmptyColumnWarning, match="left out: c"):
            filled = imputer.fit(frame).transform(frame)
    assert list(filled) == list(imputer.get_feature_names_out()) == (list("abcd") if keep else list("abd"))
    with pytest.raises(DataError, match="got none"):
        LatentImputer().fit(np.full((5, 2), np.nan))


def test_rows_without_any_observed_cell_and_constant_columns():
    _, gaps = one_factor(60, seed=5)
    gaps[0] = np.nan
    gaps[:, 1] = np.where(np.isnan(gaps[:, 1]), np.nan, 3.25)
    filled = LatentImputer(random_state=0).fit_transform(gaps)
    assert np.isfinite(filled).all() and (filled[:, 1] == 3.25).all()


def test_max_rows_takes_a_sample_that_is_as_good():
    _, gaps = one_factor(4000, seed=6)
    filled = LatentImputer("linear", max_rows=1500, random_state=0).fit_transform(gaps)
    off = (filled - conditional(gaps)) / np.nanstd(gaps, 0)
    assert np.sqrt(np.mean(off[np.isnan(gaps)] ** 2)) < 0.1


DATES = pd.DataFrame({"t": pd.date_range("2024", periods=9), "x": np.arange(9.0)})


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (DATES, "'t' must hold numbers or labels; got times.*days since"),
        (pd.DataFrame({"x": [1.0, np.inf, 2.0]}), "'x' must hold finite numbers"),
        (pd.DataFrame({"id": [f"n{k}" for k in range(50)]}), "50 different labels in 50 rows"),
        (pd.DataFrame({"x": [[1], [2], [3]]}), r"'x' must hold numbers or labels; got \[1\]"),
        (pd.DataFrame({"x": []}), "at least one row"),
    ],
)
def test_tables_that_cannot_serve(rows, words):
    with pytest.raises(DataError, match=words):
        LatentImputer().fit(rows)


def test_other_wrong_calls():
    _, gaps = mixed(60)
    imputer = LatentImputer("linear", random_state=0)
    with pytest.raises(NotFittedError):
        imputer.transform(gaps)
    imputer.fit(gaps)
    with pytest.raises(DataError, match="must be a DataFrame, as in fit.*size"):
        imputer.transform(np.zeros((3, 5)))
    with pytest.raises(DataError, match="'height' must hold numbers, as in fit; got 'tall'"):
        imputer.transform(gaps.assign(height="tall"))
    with pytest.raises(DeclarationError, match="below 1; got 1.5"):
        imputer.interval(gaps, level=1.5)
    with pytest.raises(DeclarationError, match=r"a list of FactorMixture.*got 3"):
        LatentImputer([3]).fit(gaps)
    with pytest.raises(DeclarationError, match="scale must be one of 'standard', 'normal scores'"):
        FactorMixture(2, 3, scale="ranks")


def test_mixtures_of_ones_own_are_cloned_and_used():
    _, gaps = one_factor(100, seed=7)
    own = clone(LatentImputer([FactorMixture(1, 1), FactorMixture(2, 1, "normal scores")], random_state=0))
    assert set(own.fit(gaps).models_) <= {FactorMixture(1, 1), FactorMixture(2, 1, "normal scores")}


def test_contract_of_scikit_learn():
    """That of the defaults is a slow test, with all estimators."""
    estimator_checks.check_estimator(LatentImputer("linear"))
