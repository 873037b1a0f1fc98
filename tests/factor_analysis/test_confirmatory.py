"""Confirmatory models: against a numerical maximum of the likelihood, with gaps, and what a pattern identifies."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from peer_data import questionnaire
from scipy.optimize import minimize
from torch.distributions import MultivariateNormal

import pyro_lfm as lfm
from pyro_lfm import factor_analysis


def blocks(columns, factors):
    pattern = np.zeros((columns, factors), dtype=int)
    pattern[np.arange(columns), np.arange(columns) * factors // columns] = 1
    return pattern


def correlated(factors):
    return lfm.Gaussian(factors, mean=lfm.Fixed(0.0), covariance=lfm.Full())


def model_of(pattern, latent=None, covariance=None):
    columns, factors = np.shape(pattern)
    x = lfm.Gaussian(columns, mean=lfm.Linear(pattern=pattern), covariance=covariance or lfm.Diagonal())
    return lfm.Model(z=latent or correlated(factors), x=x).double()


def fitted(pattern, rows, inference=None, **options):
    return lfm.fit(
        model_of(pattern, **options), rows, inference or lfm.EM(restarts=1), seed=0, progress=False
    )


def simulated(pattern, rows, seed, between=0.4):
    """Rows of columns in units from 0.1 to 100, about 5."""
    random = np.random.default_rng(seed)
    columns, factors = pattern.shape
    loadings = pattern * random.uniform(0.5, 0.9, pattern.shape)
    covariance = np.full((factors, factors), between) + (1 - between) * np.eye(factors)
    scores = random.multivariate_normal(np.zeros(factors), covariance, rows)
    values = scores @ loadings.T + 0.6 * random.normal(size=(rows, columns))
    return values * np.geomspace(0.1, 100, columns) + 5


def numerical_maximum(rows, pattern, free_correlations=True, seed=0):
    """log p of all rows at the maximum over loadings, correlations, noise and means, by BFGS. Gaps are integrated out."""
    x = torch.as_tensor(rows, dtype=torch.float64)
    seen = ~x.isnan()
    scale = torch.as_tensor(np.nanstd(rows, axis=0))
    scaled = (x - torch.as_tensor(np.nanmean(rows, axis=0))) / scale
    where = torch.as_tensor(np.argwhere(pattern))
    columns, factors = pattern.shape
    pairs = torch.tril_indices(factors, factors, -1)
    sizes = [len(where), columns, columns, pairs.shape[1] * free_correlations]
    kinds, own = torch.unique(seen, dim=0, return_inverse=True)

    def log_likelihood(vector):
        loads, deviations, mean, below = vector.split(sizes)
        loadings = torch.zeros(columns, factors, dtype=torch.float64).index_put(tuple(where.T), loads)
        root = torch.eye(factors, dtype=torch.float64)
        if free_correlations:
            root = root.index_put(tuple(pairs), below)
            root = root / root.norm(dim=1, keepdim=True)
        implied = loadings @ root
        implied = implied @ implied.T + deviations.square().diag()
        total = 0.0
        for number, kind in enumerate(kinds):
            if kind.any():
                gaussian = MultivariateNormal(mean[kind], implied[kind][:, kind], validate_args=False)
                total = total + gaussian.log_prob(scaled[own == number][:, kind]).sum()
        return total - (seen.sum(0) * scale.log()).sum()

    def cost(vector):
        vector = torch.tensor(vector, requires_grad=True)
        value = -log_likelihood(vector) / len(x)
        value.backward()
        return float(value.detach()), vector.grad.numpy()

    start = np.concatenate([np.full(len(where), 0.6), np.full(columns, 0.7), np.zeros(columns + sizes[3])])
    return (
        -len(x) * minimize(cost, start, jac=True, method="BFGS", options={"gtol": 1e-8, "maxiter": 3000}).fun
    )


CROSSED = blocks(8, 2)
CROSSED[3, 1] = 1


# Two columns stand with the wrong factor, so that the factors' correlation is near one.
SWAPPED = blocks(6, 2)
SWAPPED[[0, 3]] = SWAPPED[[3, 0]]


@pytest.mark.parametrize(
    ("pattern", "rows"),
    [
        (SWAPPED, simulated(blocks(6, 2), 300, 2)),
        (blocks(9, 3), simulated(blocks(9, 3), 400, 0)),
        (CROSSED, simulated(CROSSED, 150, 1, between=-0.5)),
        (blocks(12, 3), questionnaire()),
    ],
    ids=["a wrong pattern", "three factors", "a cross-loading", "questionnaire"],
)
def test_the_maximum_is_that_of_a_numerical_search(pattern, rows):
    fit = fitted(pattern, rows)
    assert fit.converged
    own = float(fit.log_likelihood().sum()) / len(rows)
    assert own == pytest.approx(numerical_maximum(rows, pattern) / len(rows), abs=1e-6)
    done = factor_analysis.solution(fit)
    values = done.loadings.to_numpy()
    assert (values[pattern == 0] == 0).all() and (values.sum(0) > 0).all()
    assert np.allclose(np.diag(done.factor_correlations), 1)
    columns, factors = pattern.shape
    df = columns * (columns + 1) // 2 - columns - pattern.sum() - factors * (factors - 1) // 2
    indices = done.fit_indices()
    assert indices.df == df and indices.correction == "none"


def test_uncorrelated_factors_and_isotropic_noise():
    pattern = blocks(6, 2)
    rows = simulated(pattern, 200, 3)
    fit = fitted(pattern, rows, latent=lfm.StandardNormal(2))
    own = float(fit.log_likelihood().sum()) / len(rows)
    assert own == pytest.approx(numerical_maximum(rows, pattern, free_correlations=False) / 200, abs=1e-6)
    assert own < float(fitted(pattern, rows).log_likelihood().mean())
    alike = rows / np.geomspace(0.1, 100, 6)
    isotropic = fitted(pattern, alike, covariance=lfm.Isotropic())
    free = fitted(pattern, alike)
    assert isotropic.converged and isotropic.log_likelihood().mean() < free.log_likelihood().mean()
    one, many = (factor_analysis.solution(fit).fit_indices().df for fit in (free, isotropic))
    assert many == one + 5


def test_rows_with_gaps_by_full_information():
    pattern = blocks(6, 2)
    rows = simulated(pattern, 120, 4)
    rows[np.random.default_rng(5).random(rows.shape) < 0.15] = np.nan
    fit = fitted(pattern, rows)
    assert float(fit.log_likelihood().mean()) == pytest.approx(
        numerical_maximum(rows, pattern) / 120, abs=1e-6
    )
    indices = factor_analysis.solution(fit).fit_indices()
    assert indices.df == 8 and 0 <= indices.chi_squared < indices.baseline_chi_squared
    empty = np.vstack([rows, np.full(6, np.nan)])
    assert factor_analysis.solution(fit).fit_indices(empty) == indices


@pytest.mark.parametrize(
    "inference",
    [lfm.EM(accelerate=False, iterations=60, restarts=1), lfm.VariationalEM(accelerate=False, iterations=60)],
)
def test_the_bound_never_falls(inference):
    pattern = blocks(6, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lfm.ConvergenceWarning)
        fit = fitted(pattern, simulated(pattern, 100, 6), inference)
    bounds = np.array([record["bound"] for record in fit.history])
    assert (np.diff(bounds) > -1e-10).all()
    assert (fit.loadings().to_numpy()[pattern == 0] == 0).all()


@pytest.mark.slow
def test_random_starts_end_in_the_same_maximum():
    """Ten starts, of random loadings but for the first; the likelihood of a crossed pattern is the same up to signs."""
    rows = simulated(CROSSED, 300, 13)
    one, ten = (fitted(CROSSED, rows, lfm.EM(restarts=restarts)) for restarts in (1, 10))
    assert len(ten.ends) == 10
    assert float(one.log_likelihood().mean()) == pytest.approx(float(ten.log_likelihood().mean()), abs=1e-8)
    assert np.allclose(one.loadings(), ten.loadings(), atol=1e-4)


def test_a_second_fit_goes_on_and_a_saved_fit_has_the_correlations(tmp_path):
    pattern = blocks(6, 2)
    rows = simulated(pattern, 200, 7)
    fit = fitted(pattern, rows)
    before = float(fit.log_likelihood().sum())
    again = lfm.fit(fit.model, rows, lfm.EM(), progress=False)
    assert float(again.log_likelihood().sum()) == pytest.approx(before, abs=1e-6)
    fit.save(tmp_path)
    loaded = lfm.load(tmp_path)
    between = factor_analysis.solution(loaded).factor_correlations
    assert np.allclose(between, factor_analysis.solution(fit).factor_correlations)
    assert torch.allclose(loaded.posterior(rows).mean, fit.posterior(rows).mean)


def test_known_loadings_leave_covariances_of_factors_to_be_learned():
    """With W fixed the scales of the factors are identified: S is their covariance."""
    pattern = blocks(6, 2).astype(float)
    rows = simulated(pattern, 300, 8) / np.geomspace(0.1, 100, 6)
    x = lfm.Gaussian(6, mean=lfm.Linear(weight=lfm.Fixed(pattern)), covariance=lfm.Diagonal())
    model = lfm.Model(z=correlated(2), x=x).double()
    fit = lfm.fit(model, rows, lfm.EM(), seed=0, progress=False)
    assert fit.converged
    covariance = model.factors["z"]().covariance_matrix.detach().numpy()
    assert not np.allclose(np.diag(covariance), 1, atol=0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lfm.ScaleFloorWarning)
        indices = factor_analysis.solution(fit).fit_indices()
    assert indices.df == 21 - 6 - 3


def test_means_of_factors_and_a_fixed_bias():
    """A mean of the factors changes nothing where the bias is free; one is told where it is not."""
    pattern = blocks(6, 2)
    rows = simulated(pattern, 200, 12)
    expected = float(fitted(pattern, rows).log_likelihood().mean())
    shifted = lfm.Gaussian(2, mean=lfm.Fixed([1.0, -2.0]), covariance=lfm.Full())
    for latent in (shifted, lfm.Gaussian(2, covariance=lfm.Full())):
        fit = fitted(pattern, rows, latent=latent)
        assert fit.converged and float(fit.log_likelihood().mean()) == pytest.approx(expected, abs=1e-9)
        assert torch.allclose(fit.model.factors["z"]().covariance_matrix.diagonal(), torch.ones(2).double())
    x = lfm.Gaussian(6, mean=lfm.Linear(pattern=pattern, bias=lfm.Fixed(0.0)))
    fixed = lfm.Model(z=lfm.Gaussian(2, covariance=lfm.Full()), x=x)
    with pytest.raises(lfm.DeclarationError, match=r"bias of x is fixed.*z.mean to be Fixed\(0.0\)"):
        lfm.fit(fixed, rows, lfm.EM(), progress=False)


@pytest.mark.slow
def test_svi_keeps_the_zeros_and_comes_near():
    pattern = blocks(6, 2)
    rows = simulated(pattern, 300, 9) / np.geomspace(0.1, 100, 6)
    rows = rows - rows.mean(0)
    model = model_of(pattern)
    guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear(), covariance=lfm.Full()))
    svi = lfm.SVI(guide, steps=250, batch_size=300, learning_rate=0.03)
    fit = lfm.fit(model, rows, svi, seed=0, progress=False)
    weight = model.factors["x"].parts["mean"].network.weight(None).detach().numpy()
    assert (weight[pattern == 0] == 0).all()
    exact = fitted(pattern, rows).log_likelihood().mean()
    assert exact - 0.1 < fit.log_likelihood().mean() <= exact + 1e-9


@pytest.mark.parametrize(
    ("pattern", "latent", "words"),
    [
        ([[1, 0], [1, 0], [0, 1], [0, 1]], lfm.StandardNormal(2), "identifies 6 of 8 parameters"),
        ([[1], [1]], lfm.StandardNormal(1), "identifies 3 of 4 parameters"),
        ([[1, 1]] * 6, correlated(2), "identifies 17 of 19 parameters"),
    ],
)
def test_what_a_pattern_does_not_identify_is_told(pattern, latent, words):
    rows = simulated(np.array(pattern), 200, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lfm.ScaleFloorWarning)
        warnings.simplefilter("ignore", lfm.ConvergenceWarning)
        fit = fitted(pattern, rows, latent=latent)
        with pytest.warns(lfm.IdentificationWarning, match=words):
            factor_analysis.solution(fit)


def test_a_pattern_in_every_container_is_one_declaration():
    values = blocks(6, 2)
    frame = pd.DataFrame(values, columns=["calm", "kind"])
    given = [values, values.astype(bool), values.tolist(), torch.tensor(values), torch.tensor(values).bool()]
    given += [values.astype(float), frame, frame.astype(bool), values.astype(bool).tolist()]
    for pattern in given:
        part = lfm.Linear(pattern=pattern)
        assert part == lfm.Linear(pattern=values) and lfm.part(repr(part)) == part
        model = lfm.Model(z=correlated(2), x=lfm.Gaussian(6, mean=part))
        declared = lfm.declare({"model": model.declaration()["model"]})
        assert lfm.declare(declared.toml()) == declared
    assert "pattern: [[1, 0]" in lfm.Linear(pattern=values).describe()


@pytest.mark.parametrize(
    ("pattern", "error", "words"),
    [
        ([[1, 2], [0, 1]], lfm.DeclarationError, "of 0 and 1.*got other entries"),
        ([1, 0], lfm.ShapeError, r"got \(2,\)"),
        ([["a"]], lfm.DeclarationError, "of 0 and 1"),
        ([[1, 0], [1, 0]], lfm.DeclarationError, "column 1 has none"),
        ([[1], [1, 0]], lfm.DeclarationError, "of 0 and 1"),
    ],
)
def test_what_is_no_pattern_is_refused(pattern, error, words):
    with pytest.raises(error, match=words):
        lfm.Linear(pattern=pattern)


def test_sizes_and_other_options_that_a_pattern_excludes_are_named():
    with pytest.raises(
        lfm.ShapeError, match=r"6 rows for the columns and 2 columns for the factors; got \(5, 2\)"
    ):
        lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(6, mean=lfm.Linear(pattern=blocks(5, 2))))
    with pytest.raises(lfm.DeclarationError, match="takes no prior"):
        lfm.Linear(pattern=blocks(4, 2), prior=lfm.parameter_priors.ARD())
    with pytest.raises(lfm.DeclarationError, match="takes no Fixed weight"):
        lfm.Linear(weight=lfm.Fixed(1.0), pattern=blocks(4, 2))


def test_what_em_cannot_serve_is_named():
    rows = simulated(blocks(4, 2), 50, 11)
    free = lfm.Model(z=correlated(2), x=lfm.Gaussian(4, mean=lfm.Linear()))
    with pytest.raises(
        lfm.DeclarationError, match=r"z.covariance is learned.*StandardNormal\(K\), or Linear\(pattern"
    ):
        lfm.fit(free, rows, lfm.EM(), progress=False)
    full = model_of(blocks(4, 2), covariance=lfm.Full(lfm.Fixed(torch.eye(4))))
    with pytest.raises(lfm.DeclarationError, match="x.covariance is Full: a pattern or correlated factors"):
        lfm.fit(full, rows, lfm.EM(), progress=False)
    fit = fitted(blocks(4, 2), rows)
    with pytest.raises(lfm.DeclarationError, match="pattern of zeros, which a rotation would change"):
        factor_analysis.solution(fit, "varimax")
