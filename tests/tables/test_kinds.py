"""Kinds of whole numbers by likelihood: counts are counts, rounded numbers are continuous, levels are levels."""

import numpy as np
import pandas as pd
import pytest
from palmerpenguins import load_penguins
from scipy import stats

import pyro_lfm as lfm
from pyro_lfm.tables.kind_likelihoods import (
    gaussian,
    grid,
    levels,
    lognormal,
    negative_binomial,
    poisson_log_normal,
)
from pyro_lfm.tables.kinds import recognise


def kind(x):
    return recognise(pd.Series(np.asarray(x, dtype=float), name="x")).kind


def counts(rng, mean, r, n):
    return rng.poisson(mean * (1.0 if np.isinf(r) else rng.gamma(r, 1 / r, n)) * np.ones(n)).astype(float)


def errors(seed, sizes, means, dispersions, repeats):
    """The number of columns of counts that are called otherwise, and of all columns."""
    rng, wrong, tried = np.random.default_rng(seed), 0, 0
    for n in sizes:
        for mean in means:
            for r in dispersions:
                for _ in range(repeats):
                    x = counts(rng, mean, r, n)
                    if len(np.unique(x)) > 2:  # two values are binary
                        wrong, tried = wrong + (kind(x) != "count"), tried + 1
    return wrong, tried


def test_columns_of_counts_are_counts():
    """Of about 300 columns at most 4% are called otherwise. The slow test measures 0.3%."""
    wrong, tried = errors(0, (50, 400), (0.5, 3, 30, 1000), (0.5, 5, np.inf), 13)
    assert tried > 290 and wrong <= 0.04 * tried


@pytest.mark.slow
@pytest.mark.parametrize("n", [50, 200, 1000, 5000])
def test_errors_over_many_columns_of_counts(n):
    """At every size at most 2% of columns of counts, and 6% at any mean and dispersion (of 100 columns each)."""
    total, tried = 0, 0
    for mean in (0.3, 1, 3, 10, 30, 100, 1000, 10000):
        for r in (0.3, 1, 5, 30, np.inf):
            wrong, of = errors(int(mean * 100 + n), [n], [mean], [r], 100 if n < 5000 else 40)
            print(f"n={n} mean={mean} r={r}: {wrong}/{of}")
            assert wrong <= 0.06 * max(of, 50)
            total, tried = total + wrong, tried + of
    print(f"n={n}: {total}/{tried}")
    assert total <= 0.02 * tried


@pytest.mark.parametrize("step", [1, 5, 10, 25, 100])
@pytest.mark.parametrize("n", [60, 400])
def test_rounded_measurements_are_continuous(step, n):
    """Lengths around 170 with spread 8, and masses rounded to 5, 10, 25 or 100; seeds are fixed."""
    rng = np.random.default_rng(0)
    x = rng.normal(170, 8, n).round() if step == 1 else step * np.round(rng.normal(4200, 800, n) / step)
    assert kind(x) == "continuous" and grid(x) == (step, 1.0)
    column = recognise(pd.Series(x))
    assert "nats" in column.why and (step == 1 or f"in steps of {step}" in column.why)


def test_a_few_numbers_off_the_step_do_not_hide_it():
    x = 25 * np.round(np.random.default_rng(0).normal(168, 32, 300))
    x[:3] += 7
    assert grid(x) == (25.0, 0.99) and kind(x) == "continuous"
    assert "in steps of 25 (99%)" in recognise(pd.Series(x)).why


def test_skewed_measurements_are_positive():
    rng = np.random.default_rng(0)
    assert kind(np.round(np.exp(rng.normal(10, 0.8, 400)))) == "positive"
    assert kind(np.round(np.exp(rng.normal(10, 0.8, 400)), -2)) == "positive"


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize(
    "shape", [[0.1, 0.2, 0.4, 0.2, 0.1], [0.2] * 5, [0.4, 0.1, 0.1, 0.4], [0.05, 0.15, 0.35, 0.45]]
)
def test_levels_of_a_scale_are_ordinal(shape, start):
    rng = np.random.default_rng(1)
    assert kind(rng.choice(len(shape), 150, p=shape) + start) == "ordinal"
    assert kind(rng.choice(len(shape), 150, p=shape) - 2) == "ordinal"  # -2, -1, ...
    assert kind(10 * rng.choice(len(shape), 150, p=shape) + 10) == "ordinal"  # 10, 20, ...


def test_long_columns_and_huge_numbers():
    rng = np.random.default_rng(0)
    assert kind(rng.poisson(300.0, 100_000)) == "count"
    assert kind(rng.normal(0, 1, 50) * 1e300) == "continuous"
    assert kind(1e18 + 1e16 * rng.normal(size=50).round(3)) == "continuous"


def test_penguins():
    table = lfm.heterogeneous(load_penguins())
    kinds = {column.name: column for column in table.columns}
    assert kinds["body_mass_g"].kind == "continuous" and "in steps of 25" in kinds["body_mass_g"].why
    assert (
        kinds["flipper_length_mm"].kind == "continuous"
        and "given the other" in kinds["flipper_length_mm"].why
    )
    assert kinds["year"].kind == "ordinal"
    assert all(column.why in str(table) for column in table.columns)


def test_counts_beside_other_columns_stay_counts():
    """Counts whose mean follows other columns, in several ways, are not called underdispersed; seeds are fixed."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        z = rng.normal(size=(300, 2))
        means = (
            20 * np.exp(0.5 * z[:, 0]),
            60 + 10 * z[:, 0],
            20 + 10 * z[:, 0] ** 2,
            200 * np.exp(0.1 * z.sum(1)),
        )
        frame = pd.DataFrame({f"n{k}": rng.poisson(mean) for k, mean in enumerate(np.maximum(means, 0))})
        for k in range(4):
            frame[f"x{k}"] = z @ rng.normal(size=2) + 0.2 * rng.normal(size=300)
        columns = lfm.heterogeneous(frame).columns[:4]
        assert not any("given the other" in column.why for column in columns)


# The likelihoods ----------------------------------------------------------------------------------------


def test_probabilities_of_recorded_numbers_sum_to_one():
    """Over all numbers of a grid, for each distribution; the penalty is taken off."""
    x = np.array([3.0, 8.0, 5.0, 13.0, 7.0, 6.0, 9.0, 4.0])
    n = len(x)
    normal = stats.norm(x.mean(), np.sqrt(x.var() - 1 / 12))
    expected = np.log(normal.cdf(x + 0.5) - normal.cdf(x - 0.5)).sum()
    assert gaussian(x, 1.0).score == pytest.approx(expected - np.log(n))
    log_normal = stats.lognorm(np.log(x).std(), scale=np.exp(np.log(x).mean()))
    expected = np.log(log_normal.cdf(x + 0.5) - log_normal.cdf(x - 0.5)).sum()
    assert lognormal(x, 1.0).score == pytest.approx(expected - np.log(n))
    assert lognormal(x - 3, 1.0).score == -np.inf
    # A step of 25 is worth log 25 for each number, and a wrong one costs what it promises.
    assert gaussian(25 * x, 25.0).score == pytest.approx(gaussian(x, 1.0).score)
    far = gaussian(np.array([0.0, 1.0, 2.0, 500.0]), 1.0)
    assert np.isfinite(far.score)


def test_the_negative_binomial_is_fitted_by_maximum_likelihood():
    rng = np.random.default_rng(0)
    x = counts(rng, 30, 2.0, 400)
    best = max(stats.nbinom(r, r / (r + x.mean())).logpmf(x).sum() for r in np.geomspace(0.5, 8, 400))
    assert negative_binomial(x).score == pytest.approx(best - np.log(400), abs=1e-3)
    poisson = rng.poisson(5.0, 400).astype(float)
    assert negative_binomial(poisson).words == "Poisson"
    expected = stats.poisson(poisson.mean()).logpmf(poisson).sum() - 0.5 * np.log(400)
    assert negative_binomial(poisson).score == pytest.approx(expected)


def test_the_poisson_log_normal_sums_to_one_and_is_fitted_by_maximum_likelihood():
    rng = np.random.default_rng(0)
    x = rng.poisson(np.exp(rng.normal(2.0, 0.7, 400))).astype(float)
    z = np.linspace(-8, 8, 4001)
    values, times = np.unique(x, return_counts=True)

    def log_likelihood(loc, scale):
        pmf = stats.poisson.pmf(values[:, None], np.exp(loc + scale * z)) @ stats.norm.pdf(z) * (z[1] - z[0])
        return times @ np.log(pmf)

    best = max(
        log_likelihood(loc, scale)
        for loc in np.linspace(1.9, 2.15, 11)
        for scale in np.linspace(0.6, 0.8, 11)
    )
    assert poisson_log_normal(x).score == pytest.approx(best - np.log(400), abs=0.1)


def test_levels_have_their_frequencies_or_equal_steps():
    x = np.repeat([1.0, 2.0, 3.0], [50, 1, 50])
    expected = 100 * np.log(50 / 101) + np.log(1 / 101) - 1.5 * np.log(101)
    assert levels(x).score == pytest.approx(expected)
    # Levels that are not next to each other cost the number of ways to choose them.
    assert levels(np.where(x == 3, 5, x)).score == pytest.approx(expected - np.log(10))


def test_a_few_texts_among_numbers_are_named():
    """A column of numbers with a few texts is no column of labels: the message names the first one, and the cure works."""
    frame = pd.DataFrame({"weight": [f"{50 + 0.37 * k:.2f}" for k in range(60)]}, dtype=object)
    frame.loc[[7, 30], "weight"] = "about 70"
    for call in (
        lambda: lfm.heterogeneous(frame),
        lambda: lfm.heterogeneous(frame, kinds={"weight": "count"}),
    ):
        with pytest.raises(
            lfm.DataError, match=r"2 of 60 entries, the first 'about 70' in row 7.*to_numeric"
        ):
            call()
    frame["weight"] = pd.to_numeric(frame["weight"], errors="coerce")
    assert recognise(frame["weight"]).kind == "continuous"
    labels = pd.Series([*"abcdefghij", *range(5)] * 3, name="label", dtype=object)
    assert recognise(labels).kind == "categorical"  # few numbers among labels are labels


def test_names_of_rows_without_a_header_are_no_column():
    """As to_csv writes an index. A column of running numbers that has a name stays."""
    running = pd.Series(np.arange(60), name="Unnamed: 0")
    with pytest.raises(lfm.DataError, match=r"names of the rows.*index=False.*drop"):
        recognise(running)
    assert recognise(running.rename("trial")).kind in ("continuous", "count")
