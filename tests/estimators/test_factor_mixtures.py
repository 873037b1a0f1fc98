"""Mixtures of factor analysers with uncertain loadings, their scales, and the weights of several."""

import numpy as np
import pytest
import torch

from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.estimators.imputation.scales import NormalScores, Standard
from pyro_lfm.estimators.imputation.stacking import stacking_weights
from pyro_lfm.exact.mixtures.bayesian_factors import BayesianFactors, FactorPrior, fit_bayesian_factors


def clustered(rows=120, seed=0):
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(3, 6, generator=g).double() * 1.5
    label = torch.randint(3, (rows,), generator=g)
    x = centres[label] + torch.randn(rows, 2, generator=g).double() @ torch.randn(2, 6, generator=g).double()
    x = x + 0.3 * torch.randn(rows, 6, generator=g).double()
    x = (x - x.mean(0)) / x.std(0)
    return torch.where(torch.rand(rows, 6, generator=g) < 0.25, torch.nan, x)


@pytest.mark.parametrize("classes", [1, 3])
def test_the_bound_never_falls(classes):
    state = fit_bayesian_factors(clustered(), classes, 2, seed=0, iterations=60, tolerance=1e-9)
    gains = np.diff(state.bounds)
    assert len(gains) > 5 and (gains > -1e-7 * abs(state.bounds[-1])).all()


def test_an_earlier_fit_goes_on():
    x = clustered()
    first = fit_bayesian_factors(x, 2, 2, seed=0, iterations=10, tolerance=0.0)
    more = fit_bayesian_factors(x, 2, 2, seed=0, iterations=10, tolerance=0.0, start=first)
    whole = fit_bayesian_factors(x, 2, 2, seed=0, iterations=20, tolerance=0.0)
    assert np.allclose(whole.bounds[10:], more.bounds, rtol=1e-12)


def known_mixture():
    g = torch.Generator().manual_seed(1)
    line = torch.randn(2, 4, 3, generator=g).double()
    noise = torch.rand(2, 4, generator=g).double() + 0.1
    zero = line.new_zeros(2, 4, 3, 3)
    weights = torch.tensor([0.3, 0.7]).double()
    return BayesianFactors(weights, line, zero, noise, line.new_ones(2, 2), line.new_zeros(4), FactorPrior())


def test_predictive_is_that_of_the_mixture_of_gaussians():
    """With loadings that are certain, p(x) is a mixture of Gaussians with covariances W Wᵀ + ψ."""
    state = known_mixture()
    x = torch.tensor([[0.5, torch.nan, -1.0, torch.nan]]).double()
    seen, missing = [0, 2], [1, 3]
    odds, means, variances = state.predictive(x)
    densities = []
    for c in range(2):
        weight, mean = state.line[c, :, :2], state.line[c, :, 2]
        covariance = weight @ weight.T + state.noise[c].diag()
        own = torch.distributions.MultivariateNormal(mean[seen], covariance[seen][:, seen])
        densities.append(state.weights[c].log() + own.log_prob(x[0, seen]))
        gain = torch.linalg.solve(covariance[seen][:, seen], covariance[seen][:, missing])
        expected = mean[missing] + (x[0, seen] - mean[seen]) @ gain
        rest = covariance[missing][:, missing] - covariance[missing][:, seen] @ gain
        assert torch.allclose(means[c, 0, missing], expected)
        assert torch.allclose(variances[c, 0, missing], rest.diagonal())
    assert torch.allclose(odds[0], torch.stack(densities).softmax(0))


def test_draws_have_the_predictive_moments_and_correlations():
    """20,000 draws: five standard errors, a false alarm in 10⁵ runs."""
    state = known_mixture()
    x = torch.tensor([[0.5, torch.nan, -1.0, torch.nan]]).double()
    draws = state.draw(x, 20_000, torch.Generator().manual_seed(0))[:, 0]
    odds, means, variances = state.predictive(x)
    mean = (odds[0, :, None] * means[:, 0]).sum(0)
    square = (odds[0, :, None] * (variances[:, 0] + means[:, 0].square())).sum(0) - mean.square()
    assert (draws[:, [0, 2]] == x[0, [0, 2]]).all()
    for k in (1, 3):
        assert abs(draws[:, k].mean() - mean[k]) < 5 * (square[k] / 20_000) ** 0.5
        assert abs(draws[:, k].var() / square[k] - 1) < 0.1


def test_wrong_arguments_of_a_fit():
    with pytest.raises(DeclarationError, match="classes ≥ 1"):
        fit_bayesian_factors(clustered(), 0, 2, seed=0)
    with pytest.raises(DataError, match="at least one row"):
        fit_bayesian_factors(torch.empty(0, 2).double(), 1, 1, seed=0)


NUMBERS = np.array([False])


def test_scales_return_what_they_read():
    rows = np.random.default_rng(0).lognormal(size=(50, 1))
    for scale in (Standard.of(rows, NUMBERS), NormalScores.of(rows, NUMBERS)):
        assert np.allclose(scale.decode(0, scale.encode(rows)[:, 0]), rows[:, 0], rtol=1e-12)


def test_a_pile_of_equal_values_is_an_interval_and_a_limit():
    rows = np.concatenate([np.zeros(60), np.linspace(1, 4, 40)])[:, None]
    scores = NormalScores.of(rows, NUMBERS)
    assert (scores.decode(0, np.array([-3.0, 0.0, 0.25])) == 0).all()  # 60% of the quantiles
    assert scores.decode(0, np.array([2.0]))[0] > 3
    assert Standard.of(rows, NUMBERS).decode(0, np.array([-5.0]))[0] == 0
    free = Standard.of(np.linspace(1, 4, 40)[:, None], NUMBERS)
    assert free.decode(0, np.array([-5.0]))[0] < 0, "no pile, no limit"


def test_weights_prefer_the_better_and_average_equals():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=2000)
    noisy = truth + rng.normal(size=(2, 2000))
    assert np.allclose(stacking_weights(noisy, truth), 0.5, atol=0.05)
    weights = stacking_weights(np.stack([truth + 0.1 * noisy[0], rng.normal(size=2000)]), truth)
    assert weights[0] > 0.9 and abs(weights.sum() - 1) < 1e-12
