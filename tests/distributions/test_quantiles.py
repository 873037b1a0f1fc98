"""Quantiles of single entries against SciPy, against cumulated probabilities and against the distribution function."""

import numpy as np
import pyro.distributions as dist
import pytest
import scipy.stats as st
import torch
from torch.distributions import transforms

from pyro_lfm.distributions.count_distributions import NegativeBinomial
from pyro_lfm.distributions.logistic import DiscretizedLogistic, Grid, OrderedLevels
from pyro_lfm.distributions.quantiles import quantile
from pyro_lfm.distributions.zero_inflated import ZeroInflated

LEVELS = (0.05, 0.5, 0.95)
A = torch.linspace(0.2, 30.0, 40, dtype=torch.float64)
B = torch.linspace(3.0, 0.3, 40, dtype=torch.float64)
a, b = A.numpy(), B.numpy()

SCIPY = {
    "Gamma": (dist.Gamma(A, B), lambda p: st.gamma.ppf(p, a, scale=1 / b)),
    "Beta": (dist.Beta(A, B), lambda p: st.beta.ppf(p, a, b)),
    "StudentT": (dist.StudentT(B, A, B), lambda p: st.t.ppf(p, b, a, b)),
    "Normal": (dist.Normal(A, B), lambda p: st.norm.ppf(p, a, b)),
    "LogNormal": (dist.LogNormal(A / 10, B), lambda p: st.lognorm.ppf(p, b, scale=np.exp(a / 10))),
    "Poisson": (dist.Poisson(A), lambda p: st.poisson.ppf(p, a)),
    "negative binomial": (
        NegativeBinomial(B, log_mean=A.log()), lambda p: st.nbinom.ppf(p, b, b / (a + b)),
    ),
    "Binomial": (dist.Binomial(30, logits=A - 10), lambda p: st.binom.ppf(p, 30, 1 / (1 + np.exp(10 - a)))),
    "Bernoulli": (dist.Bernoulli(A / 31), lambda p: st.bernoulli.ppf(p, a / 31)),
    "falling transform": (
        dist.TransformedDistribution(dist.Gamma(A, B), [transforms.AffineTransform(1.0, -2.0)]),
        lambda p: 1 - 2 * st.gamma.ppf(1 - p, a, scale=1 / b),
    ),
}  # fmt: skip


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", SCIPY)
def test_quantiles_are_those_of_scipy(name, level):
    distribution, truth = SCIPY[name]
    value = quantile(distribution, torch.tensor(level, dtype=torch.float64))
    assert np.allclose(value.numpy(), truth(level), rtol=1e-6)


GRID = Grid(0.0, 1.0, 16)
PARTS = dist.Categorical(torch.tensor([0.3, 0.7]))
WHOLE = {
    "zero-inflated": (ZeroInflated(dist.Poisson(torch.tensor(4.0)), torch.tensor(0.3)), torch.arange(40.0)),
    "levels": (OrderedLevels(logits=torch.tensor([0.3, -1.0, 2.0, 0.1])), torch.arange(4.0)),
    "pixels": (
        DiscretizedLogistic(torch.tensor(0.4), torch.tensor(0.2), GRID),
        GRID.value(torch.arange(16.0)),
    ),
    "mixture of pixels": (
        dist.MixtureSameFamily(
            PARTS, DiscretizedLogistic(torch.tensor([0.1, 0.8]), torch.tensor([0.05, 0.1]), GRID)
        ),
        GRID.value(torch.arange(16.0)),
    ),
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", WHOLE)
def test_quantiles_are_the_first_values_whose_cumulated_probability_reaches_the_level(name, level):
    distribution, values = WHOLE[name]
    below = distribution.log_prob(values).exp().cumsum(0)
    first = values[int((below < level).sum())]
    assert torch.isclose(quantile(distribution, torch.tensor(level)), first)


@pytest.mark.parametrize("level", LEVELS)
def test_a_mixture_reaches_the_level_at_its_quantile(level):
    mixture = dist.MixtureSameFamily(PARTS, dist.Normal(torch.tensor([-3.0, 5.0]), torch.tensor([0.1, 2.0])))
    assert torch.isclose(mixture.cdf(quantile(mixture, torch.tensor(level))), torch.tensor(level), atol=1e-5)


def test_counts_of_any_size_and_what_has_no_quantiles():
    assert quantile(dist.Poisson(torch.tensor([0.0, 1e30])), torch.tensor(0.95)).tolist() == [
        0.0,
        pytest.approx(1e30),
    ]
    assert quantile(dist.Categorical(torch.ones(3)), torch.tensor(0.5)) is None
    assert quantile(dist.VonMises(torch.tensor(0.0), torch.tensor(1.0)), torch.tensor(0.5)) is None
