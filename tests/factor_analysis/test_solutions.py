"""Factor solutions of fits: against closed forms, statsmodels, other fits of the same model, and what they refuse."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_wine

import pyro_lfm as lfm
from pyro_lfm import factor_analysis

WINE = load_wine(as_frame=True).data


def model_of(columns, factors, covariance=None, **options):
    x = lfm.Gaussian(columns, mean=lfm.Linear(**options), covariance=covariance or lfm.Diagonal())
    return lfm.Model(z=lfm.StandardNormal(factors), x=x).double()


def fitted(rows, factors=2, inference=None, **options):
    model = model_of(rows.shape[1], factors, **options)
    return lfm.fit(model, rows, inference or lfm.EM(), seed=0, progress=False)


@pytest.fixture(scope="module")
def fit():
    return fitted(WINE)


@pytest.fixture(scope="module", params=[None, "varimax", "oblimin"])
def solution(fit, request):
    return factor_analysis.solution(fit, request.param)


def test_the_solution_has_the_covariance_of_the_model_in_correlations(fit, solution):
    values = solution.loadings.to_numpy()
    implied = values @ solution.factor_correlations.to_numpy() @ values.T + np.diag(solution.uniquenesses)
    # At an interior maximum the variances are those of the data.
    scale = WINE.to_numpy().std(0)
    expected = (
        fit.model.factors["x"].parts["mean"].network.weight(None).detach().double().numpy() / scale[:, None]
    )
    off = ~np.eye(13, dtype=bool)
    assert np.allclose(implied[off], (expected @ expected.T)[off], atol=1e-6)
    assert np.allclose(np.diag(implied), 1)
    assert np.allclose(solution.communalities + solution.uniquenesses, 1)
    assert np.allclose(solution.loadings_in_units.to_numpy() / scale[:, None], values, atol=1e-6)


def test_names_of_columns_and_factors_go_through_the_tables(fit, solution):
    table = fit.loadings(solution.rotation)
    assert isinstance(table, pd.DataFrame)
    assert list(table.index) == list(WINE.columns) and list(table.columns) == ["F1", "F2"]
    pd.testing.assert_frame_equal(table, solution.loadings)
    pd.testing.assert_frame_equal(
        fit.loadings(solution.rotation, standardised=False), solution.loadings_in_units
    )


def test_unrotated_factors_are_canonical(fit):
    done = factor_analysis.solution(fit)
    values = done.loadings.to_numpy()
    inner = values.T @ (values / done.uniquenesses.to_numpy()[:, None])
    assert abs(inner[0, 1]) < 1e-9 * inner[0, 0] and inner[0, 0] > inner[1, 1]


def test_regression_scores_are_posterior_means_and_bartlett_scores_are_unbiased(fit, solution):
    rows = WINE.iloc[:20]
    means = fit.posterior(rows).mean.numpy() @ np.linalg.inv(solution.transformation).T
    scores = solution.scores(rows)
    assert np.allclose(scores, means, atol=1e-6) and list(scores.columns) == ["F1", "F2"]
    assert list(scores.index) == list(rows.index)
    standard = (rows - WINE.mean()) / WINE.std(ddof=0)
    for method in ("regression", "bartlett"):
        weights = solution.score_weights(method)
        assert np.allclose(standard.to_numpy() @ weights.to_numpy(), solution.scores(rows, method), atol=1e-5)
    weights = solution.score_weights("bartlett").to_numpy()
    assert np.allclose(weights.T @ solution.loadings.to_numpy(), np.eye(2), atol=1e-10)


def test_scores_of_rows_with_gaps(fit):
    done = factor_analysis.solution(fit, "promax")
    gaps = WINE.iloc[:6].copy()
    gaps.iloc[0, 3] = np.nan
    gaps.iloc[1, 1:] = np.nan
    gaps.iloc[2, :] = np.nan
    means = fit.posterior(gaps).mean.numpy() @ np.linalg.inv(done.transformation).T
    assert np.allclose(done.scores(gaps), means, atol=1e-6)
    bartlett = done.scores(gaps, "bartlett")
    assert bartlett.iloc[0].notna().all() and bartlett.iloc[1:3].isna().all(axis=None)
    with pytest.raises(lfm.DeclarationError, match='"regression" or "bartlett"'):
        done.scores(method="thomson")


def test_variance_by_codes_is_what_evaluate_estimates():
    """Standardised columns and the exact posterior, so that the estimate is that of the model's covariance."""
    rows = (WINE - WINE.mean()) / WINE.std(ddof=0)
    fit = fitted(rows)
    shares = lfm.evaluate.variance_explained(fit)
    done = factor_analysis.solution(fit)
    assert float(shares.total["x"][0]) == pytest.approx(done.variance.loc["R² of codes", "all"], abs=1e-3)
    assert done.variance.loc["R² of codes", "all"] > done.variance.loc["Proportion Var", "all"] + 0.02
    assert done.variance.loc["SS loadings", "all"] == pytest.approx(done.communalities.sum())


@pytest.mark.slow
@pytest.mark.parametrize("covariance", [lfm.Diagonal(), lfm.Isotropic()])
def test_variational_bayes_and_svi_give_solutions_near_that_of_em(covariance):
    """PPCA and factor analysis of 400 rows with strong factors: priors and SVI move loadings a little."""
    g = torch.Generator().manual_seed(0)
    weight = torch.tensor([[0.9, 0.0], [0.8, 0.0], [0.9, 0.0], [0.0, 0.7], [0.0, 0.6], [0.0, 0.7]]).double()
    rows = (
        torch.randn(400, 2, generator=g).double() @ weight.T + 0.5 * torch.randn(400, 6, generator=g).double()
    )
    expected = factor_analysis.solution(fitted(rows, covariance=covariance), "varimax").loadings
    prior = lfm.parameter_priors.ARD()
    noise = type(covariance)(prior=lfm.parameter_priors.Gamma())
    bayes = fitted(rows, inference=lfm.VariationalBayes(), covariance=noise, prior=prior)
    assert np.allclose(factor_analysis.solution(bayes, "varimax").loadings, expected, atol=0.05)
    model = model_of(6, 2, covariance)
    guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear(), covariance=lfm.Full()))
    svi = lfm.SVI(guide, steps=600, batch_size=400, learning_rate=0.03, objective=lfm.ELBO(particles=4))
    done = factor_analysis.solution(lfm.fit(model, rows, svi, seed=0, progress=False), "varimax")
    assert done.estimation == "SVI"
    assert np.allclose(done.loadings, expected, atol=0.1)


def test_factors_that_relevance_determination_switched_off_stay_zero():
    prior, noise = lfm.parameter_priors.ARD(), lfm.Diagonal(prior=lfm.parameter_priors.Gamma())
    random = np.random.default_rng(0)
    rows = random.normal(size=(300, 2)) @ random.normal(size=(2, 6)) + random.normal(size=(300, 6))
    bayes = fitted(rows, 4, lfm.VariationalBayes(), covariance=noise, prior=prior)
    assert bayes.rank == 2
    done = factor_analysis.solution(bayes, "oblimin")
    sizes = (done.loadings**2).sum().to_numpy()
    assert (sizes[:2] > 0.1).all() and (sizes[2:] < 1e-6).all()
    assert np.allclose(done.factor_correlations.iloc[2:, :2], 0)


def test_rows_with_weights_have_loadings_and_their_indices_are_refused():
    weights = np.random.default_rng(0).integers(1, 3, len(WINE))
    fit = lfm.fit(model_of(13, 2), WINE, lfm.EM(), seed=0, progress=False, weights=weights)
    repeated = fitted(WINE.loc[WINE.index.repeat(weights)])
    assert np.allclose(fit.loadings("varimax"), repeated.loadings("varimax"), atol=1e-5)
    done = factor_analysis.solution(fit)
    assert "RMSEA" not in repr(done)
    with pytest.raises(lfm.DataError, match="the fitted rows have weights"):
        done.fit_indices()


def test_a_heywood_case_names_the_column_and_the_remedy():
    g = torch.Generator().manual_seed(1)
    rows = torch.randn(200, 1, generator=g) + torch.randn(200, 4, generator=g)
    rows = torch.cat([rows, rows[:, :1] + 1e-4 * torch.randn(200, 1, generator=g)], 1)
    frame = pd.DataFrame(rows.numpy(), columns=["calm", "alert", "kind", "open", "calm again"])
    with pytest.warns(lfm.ScaleFloorWarning, match=r"the noise of columns? \d.* of x \('calm"):
        fit = fitted(frame, 1)
    with pytest.warns(lfm.ScaleFloorWarning, match="unique to 'calm.*fit by lfm.VariationalBayes"):
        done = factor_analysis.solution(fit)
    assert set(done.heywood) <= {"calm", "calm again"} and done.heywood
    assert "Heywood case: no unique variance of calm" in repr(done)
    assert factor_analysis.solution(fitted(frame, 1, covariance=lfm.Isotropic())).heywood == ()


def test_the_table_is_sorted_and_small_loadings_are_blank(solution):
    lines = solution.table(blank=0.4).splitlines()
    assert lines[0].split() == ["F1", "F2", "h2", "u2", "com"]
    values = solution.loadings.abs()
    largest = [values.loc[line.split()[0]].max() for line in lines[1:]]
    own = [values.loc[line.split()[0]].to_numpy().argmax() for line in lines[1:]]
    assert own == sorted(own)
    first = own.count(0)
    assert largest[:first] == sorted(largest[:first], reverse=True)
    shown = sum(len(line.split()) - 4 for line in lines[1:])
    assert shown == int((values >= 0.4).sum(axis=None))
    assert [line.split()[0] for line in solution.table(sort=False).splitlines()[1:]] == list(WINE.columns)


def test_the_report_says_what_was_done(solution):
    words = repr(solution)
    assert "13 columns with 2 factors" in words and "fitted by EM" in words
    assert ("Factor correlations" in words) == (solution.rotation == "oblimin")
    for line in ("SS loadings", "Cumulative Var", "R² of codes", "RMSEA", "Bartlett's correction"):
        assert line in words


def test_a_loaded_fit_has_loadings_and_its_indices_need_rows(fit, tmp_path):
    fit.save(tmp_path)
    again = lfm.load(tmp_path)
    done = factor_analysis.solution(again, "varimax")
    pd.testing.assert_frame_equal(done.loadings, fit.loadings("varimax"))
    assert "RMSEA" not in repr(done)
    with pytest.raises(lfm.DataError):
        done.fit_indices()
    expected = factor_analysis.solution(fit, "varimax").fit_indices()
    assert done.fit_indices(WINE) == expected


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        (lambda: lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(13, mean=lfm.MLP(4))), "x.mean is MLP"),
        (lambda: lfm.Model(z=lfm.StandardNormal(2), x=lfm.Poisson(13, rate=lfm.MLP(4))), "x is Poisson"),
    ],
)
def test_other_models_are_refused_with_what_serves_them(declared, words):
    model = declared()
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    fit = lfm.fit(model, WINE.round(), lfm.SVI(guide, steps=1), seed=0, progress=False)
    with pytest.raises(lfm.DeclarationError, match=f"{words}.*lfm.evaluate.loadings"):
        fit.loadings()


def test_full_noise_mixtures_and_unknown_rotations_are_refused(fit):
    full = lfm.Full(lfm.Fixed(torch.eye(13, dtype=torch.float64)))
    with pytest.raises(lfm.DeclarationError, match="x.covariance is Full"):
        fitted(WINE, covariance=full).loadings()
    mixture = lfm.Model(c=lfm.Categorical(2), x=lfm.Gaussian(13, mean=lfm.Lookup(), given="c"))
    with pytest.raises(lfm.DeclarationError, match="classes or no factors"):
        lfm.fit(mixture, WINE, lfm.EM(iterations=2), seed=0, progress=False).loadings()
    with pytest.raises(lfm.DeclarationError, match='rotation must be None or one of "varimax"'):
        fit.loadings("verimax")
    with pytest.raises(lfm.DeclarationError, match="factors must name the 2 factors; got 1"):
        factor_analysis.solution(fit, factors=["colour"])
    assert list(factor_analysis.solution(fit, factors=["colour", "body"]).loadings.columns) == [
        "colour",
        "body",
    ]
