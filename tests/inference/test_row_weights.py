"""Weights of rows: an integer weight is a repeated row, zero its absence, for every inference that takes them."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm import parameter_priors as priors
from pyro_lfm.errors import DataError, DeclarationError, ShapeError

ROWS, COLUMNS = 60, 5


def _rows(holes: bool = False) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 2, generator=g) @ torch.randn(2, COLUMNS, generator=g)
    x = x.double() + 0.7 * torch.randn(ROWS, COLUMNS, generator=g)
    x[:20] += 3
    if holes:
        x[torch.rand(ROWS, COLUMNS, generator=g) < 0.2] = torch.nan
    return x


WEIGHTS = torch.randint(0, 4, (ROWS,), generator=torch.Generator().manual_seed(1))


def _linear(covariance: lfm.Covariance) -> lfm.Model:
    return lfm.Model(
        z=lfm.StandardNormal(2), x=lfm.Gaussian(COLUMNS, mean=lfm.Linear(), covariance=covariance)
    ).double()


def _mixture(covariance: lfm.Covariance, **options: object) -> lfm.Model:
    weights = lfm.Categorical(3, prior=priors.Dirichlet()) if options else lfm.Categorical(3)
    x = lfm.Gaussian(COLUMNS, mean=lfm.Lookup(), covariance=covariance, given="c", **options)
    return lfm.Model(c=weights, x=x).double()


def _analysers() -> lfm.Model:
    x = lfm.Gaussian(COLUMNS, mean=lfm.Lookup(lfm.Linear()), covariance=lfm.Diagonal(), given=("c", "z"))
    return lfm.Model(c=lfm.Categorical(2), z=lfm.StandardNormal(1), x=x).double()


def _bayesian() -> lfm.Model:
    x = lfm.Gaussian(
        COLUMNS,
        mean=lfm.Linear(prior=priors.ARD()),
        covariance=lfm.Diagonal(prior=priors.Gamma()),
    )
    return lfm.Model(z=lfm.StandardNormal(2), x=x).double()


EM = lfm.EM(iterations=8, restarts=1)
CASES = {
    "factor analysis": (lambda: _linear(lfm.Diagonal()), EM),
    "probabilistic PCA": (lambda: _linear(lfm.Isotropic()), EM),
    "fixed full noise": (lambda: _linear(lfm.Full(lfm.Fixed(torch.eye(COLUMNS)))), EM),
    "variational EM": (lambda: _linear(lfm.Diagonal()), lfm.VariationalEM(iterations=8, restarts=2)),
    "mixture": (lambda: _mixture(lfm.Diagonal(lfm.Lookup())), EM),
    "full mixture": (lambda: _mixture(lfm.Full(lfm.Lookup())), EM),
    "factor analysers": (_analysers, EM),
    "baseline": (lambda: lfm.Model(x=lfm.Gaussian(COLUMNS)).double(), EM),
    "Bayesian factor analysis": (_bayesian, lfm.VariationalBayes(iterations=8)),
    "Normal-Wisharts": (
        lambda: _mixture(lfm.Full(lfm.Lookup()), prior=priors.NormalWishart()),
        lfm.VariationalBayes(iterations=8),
    ),
    "Normal-Gammas": (
        lambda: _mixture(lfm.Diagonal(lfm.Lookup()), prior=priors.NormalGamma()),
        lfm.VariationalBayes(iterations=8),
    ),
}


# With holes these read the rows in every iteration; the rest stands for them in the quick run.
QUICK_WITH_HOLES = ("factor analysis", "fixed full noise", "full mixture", "Bayesian factor analysis")
RUNS = [
    pytest.param(name, holes, marks=[pytest.mark.slow] * (holes and name not in QUICK_WITH_HOLES))
    for name in CASES
    for holes in (False, True)
]


@pytest.mark.parametrize(("name", "holes"), RUNS)
def test_an_integer_weight_is_a_repeated_row_and_zero_its_removal(name: str, holes: bool) -> None:
    make, inference = CASES[name]
    x = _rows(holes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 8 iterations are few
        weighted = lfm.fit(make(), x, inference, weights=WEIGHTS, seed=1, progress=False)
        repeated = lfm.fit(make(), x.repeat_interleave(WEIGHTS, 0), inference, seed=1, progress=False)
    one, other = ([r["bound"] for r in fit.history] for fit in (weighted, repeated))
    assert len(one) == len(other) > 1
    assert np.allclose(one, other, rtol=0, atol=1e-10)
    assert weighted.total_weight == WEIGHTS.sum() and repeated.total_weight == int(WEIGHTS.sum())
    assert torch.allclose(weighted.schema["x"].scale.spread, repeated.schema["x"].scale.spread, rtol=1e-12)
    if name != "Bayesian factor analysis" and "Normal" not in name:
        # What a fit answers is of every row alike, weighted or not.
        bounds = weighted.log_likelihood()
        assert bounds.shape == (ROWS,)
        if name != "variational EM":
            mean = float((bounds * WEIGHTS).sum() / WEIGHTS.sum())
            assert mean == pytest.approx(weighted.history[-1]["log_likelihood"], abs=1e-9)


def test_the_mean_and_the_variance_of_a_baseline_are_the_weighted_ones() -> None:
    x, weights = _rows(), torch.rand(ROWS, generator=torch.Generator().manual_seed(2)).double()
    fit = lfm.fit(CASES["baseline"][0](), x, EM, weights=weights, progress=False)
    mean = (weights[:, None] * x).sum(0) / weights.sum()
    variance = (weights[:, None] * (x - mean).square()).sum(0) / weights.sum()
    distribution = fit.model.factors["x"]()
    assert torch.allclose(distribution.mean, mean, atol=1e-12)
    assert torch.allclose(distribution.variance, variance, rtol=1e-10)


@pytest.mark.parametrize(
    ("weights", "error", "words"),
    [
        ([1.0] * (ROWS - 1), ShapeError, r"weights must have shape \(60,\), one for each row; got \(59,\)"),
        (torch.ones(ROWS, 1), ShapeError, r"got \(60, 1\)"),
        (torch.full((ROWS,), -1.0), DataError, "at least 0; got -1.0 for row 0"),
        (torch.full((ROWS,), torch.nan), DataError, "finite and at least 0; got nan"),
        (torch.full((ROWS,), torch.inf), DataError, "got inf"),
        (torch.zeros(ROWS), DataError, "must not all be 0"),
        (["a"] * ROWS, DataError, "weights must be 60 numbers"),
        (pd.Series([pd.NA] * ROWS, dtype="Float64"), DataError, "weights must"),
    ],
)
def test_bad_weights_are_refused_in_words(weights: object, error: type[Exception], words: str) -> None:
    model = _linear(lfm.Isotropic())
    with pytest.raises(error, match=words):
        lfm.fit(model, _rows(), lfm.EM(), weights=weights, progress=False)
    assert model.is_as_declared


def test_a_series_of_another_order_is_refused() -> None:
    frame = pd.DataFrame(_rows().numpy())
    weights = pd.Series(range(1, ROWS + 1), index=frame.index).sample(frac=1, random_state=0)
    with pytest.raises(DataError, match="weights have the row labels of x in another order"):
        lfm.fit(_linear(lfm.Isotropic()), frame, lfm.EM(), weights=weights, progress=False)
    lfm.fit(_linear(lfm.Isotropic()), frame, lfm.EM(), weights=weights.loc[frame.index], progress=False)


def test_an_inference_of_ones_own_is_refused_unless_it_takes_weights() -> None:
    class Mine(lfm.Inference):
        def run(self, task: object) -> lfm.Fit:
            raise AssertionError

    with pytest.raises(DeclarationError, match="Mine fits no weighted bound"):
        lfm.fit(_linear(lfm.Isotropic()), _rows(), Mine(), weights=WEIGHTS)
