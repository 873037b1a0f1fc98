"""Indices of fit against their definitions, a likelihood-ratio by hand, and simulated χ²; what they refuse."""

import numpy as np
import pytest
from scipy.stats import chi2, ncx2

import pyro_lfm as lfm
from pyro_lfm import factor_analysis

LOADINGS = np.array([[0.8, 0.0], [0.7, 0.2], [0.6, 0.0], [0.0, 0.7], [0.1, 0.6], [0.0, 0.5]])
BETWEEN = np.array([[1.0, 0.3], [0.3, 1.0]])
NOISE = 1 - np.einsum("dk,kl,dl->d", LOADINGS, BETWEEN, LOADINGS)
IMPLIED = LOADINGS @ BETWEEN @ LOADINGS.T + np.diag(NOISE)


def sample(rows=300, seed=0):
    values = np.random.default_rng(seed).multivariate_normal(np.zeros(6), IMPLIED, rows)
    return values, np.cov(values.T, bias=True)


def test_the_statistic_is_a_likelihood_ratio():
    """N F = 2 (ln p of any covariance − ln p of the model), both by their densities."""
    values, covariance = sample()
    done = factor_analysis.fit_indices(
        LOADINGS, NOISE, covariance, 300, correlations=BETWEEN, correction="none"
    )
    centred = values - values.mean(0)

    def log_likelihood(matrix):
        square = np.einsum("nd,de,ne->", centred, np.linalg.inv(matrix), centred)
        return -0.5 * (300 * (6 * np.log(2 * np.pi) + np.linalg.slogdet(matrix)[1]) + square)

    assert done.log_likelihood == pytest.approx(log_likelihood(IMPLIED))
    assert done.chi_squared == pytest.approx(2 * (log_likelihood(covariance) - log_likelihood(IMPLIED)))
    apart = 2 * (log_likelihood(covariance) - log_likelihood(np.diag(np.diag(covariance))))
    assert done.baseline_chi_squared == pytest.approx(apart)
    assert done.df == 4 and done.baseline_df == 15
    corrected = factor_analysis.fit_indices(LOADINGS, NOISE, covariance, 300, correlations=BETWEEN)
    multiplier = 300 - 1 - (2 * 6 + 5) / 6 - 2 * 2 / 3
    assert corrected.chi_squared == pytest.approx(done.chi_squared * multiplier / 300)


def test_the_indices_that_follow_from_chi_squared():
    _, covariance = sample(rows=500, seed=1)
    off = LOADINGS * np.array([1.0, 0.6])  # a wrong model, so that nothing is cut off
    done = factor_analysis.fit_indices(off, NOISE, covariance, 500, correction="none", parameters=12)
    df, statistic, base = 9, done.chi_squared, done.baseline_chi_squared
    assert done.df == df and done.p_value == pytest.approx(chi2.sf(statistic, df))
    assert done.rmsea == pytest.approx(np.sqrt((statistic - df) / df / 499))
    for limit, tail in ((done.rmsea_lower, 0.95), (done.rmsea_upper, 0.05)):
        assert ncx2.cdf(statistic, df, limit**2 * df * 499) == pytest.approx(tail, abs=1e-9)
    assert done.p_close == pytest.approx(ncx2.sf(statistic, df, 0.05**2 * df * 499))
    assert done.cfi == pytest.approx(1 - (statistic - df) / (base - 15))
    assert done.tli == pytest.approx((base / 15 - statistic / df) / (base / 15 - 1))
    assert done.parameters == 12 + 6
    assert done.aic == pytest.approx(2 * 18 - 2 * done.log_likelihood)
    assert done.bic == pytest.approx(np.log(500) * 18 - 2 * done.log_likelihood)
    scale = np.sqrt(np.diag(covariance))
    residual = (covariance - off @ off.T - np.diag(NOISE)) / np.outer(scale, scale)
    below = np.tril_indices(6, -1)
    assert done.rmsr == pytest.approx(np.sqrt((residual[below] ** 2).mean()))
    assert done.srmr == pytest.approx(np.sqrt((residual[np.tril_indices(6)] ** 2).mean()))


def test_units_of_the_columns_change_nothing_but_the_likelihood():
    _, covariance = sample()
    units = np.geomspace(1e-3, 1e3, 6)
    plain = factor_analysis.fit_indices(LOADINGS, NOISE, covariance, 300)
    scaled = factor_analysis.fit_indices(
        LOADINGS * units[:, None], NOISE * units**2, covariance * np.outer(units, units), 300
    )
    for name in ("chi_squared", "baseline_chi_squared", "rmsea", "cfi", "tli", "srmr", "rmsr"):
        assert getattr(scaled, name) == pytest.approx(getattr(plain, name), rel=1e-9)
    assert scaled.log_likelihood == pytest.approx(plain.log_likelihood - 300 * np.log(units).sum())


def test_a_model_without_degrees_of_freedom_fits_everything():
    _, covariance = sample()
    values = covariance[:3, :3]
    loading = np.sqrt(np.abs([
        values[0, 1] * values[0, 2] / values[1, 2],
        values[0, 1] * values[1, 2] / values[0, 2],
        values[0, 2] * values[1, 2] / values[0, 1],
    ]))  # fmt: skip
    done = factor_analysis.fit_indices(loading[:, None], np.diag(values) - loading**2, values, 300)
    assert done.df == 0 and done.chi_squared == pytest.approx(0, abs=1e-9) and done.cfi == pytest.approx(1)
    assert np.isnan([done.p_value, done.rmsea, done.rmsea_lower, done.tli]).all()
    assert "df = 0" in repr(done) and done.to_series()["df"] == 0


@pytest.mark.slow
def test_the_test_keeps_its_level():
    """200 samples of the model: p-values below 0.05 are binomial, 10 ± 3.1. None, or more than 25, has probability 5e-5."""
    rejected = 0
    for seed in range(200):
        model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(4, mean=lfm.Linear())).double()
        random = np.random.default_rng(seed)
        one = 0.7 * random.normal(size=(150, 1)) + 0.7 * random.normal(size=(150, 4))
        fit = lfm.fit(model, one, lfm.EM(restarts=1), seed=0, progress=False)
        rejected += factor_analysis.solution(fit).fit_indices().p_value < 0.05
    assert 1 <= rejected <= 25


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"uniquenesses": np.append(NOISE[:5], 0.0)}, lfm.DataError, "got 0 of column 5, a Heywood case"),
        ({"uniquenesses": NOISE[:5]}, lfm.ShapeError, r"uniquenesses must have shape \(6,\); got \(5,\)"),
        (
            {"covariance": np.ones((6, 6))},
            lfm.DataError,
            "covariance must be symmetric and positive definite",
        ),
        ({"covariance": np.triu(np.ones((6, 6)))}, lfm.DataError, "must be symmetric"),
        ({"covariance": np.eye(5)}, lfm.ShapeError, r"covariance must have shape \(6, 6\)"),
        ({"rows": 5}, lfm.DeclarationError, "rows must be more than 6 variables.*Bartlett"),
        ({"rows": 1}, lfm.DeclarationError, "rows must be a number ≥ 2"),
        ({"correction": "yuan"}, lfm.DeclarationError, 'correction must be "bartlett" or "none"'),
        ({"correlations": np.eye(3)}, lfm.ShapeError, r"correlations must have shape \(2, 2\)"),
        ({"loadings": [["a"]]}, lfm.DataError, "loadings must be numbers"),
    ],
)
def test_wrong_arguments_are_refused(change, error, words):
    given = {"loadings": LOADINGS, "uniquenesses": NOISE, "covariance": IMPLIED, "rows": 300, **change}
    with pytest.raises(error, match=words):
        factor_analysis.fit_indices(**given)
