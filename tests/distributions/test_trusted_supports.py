"""The library's own distributions that the check of supports trusts pass it, and a fault is seen."""

import pyro.distributions as dist
import pytest
import torch

from pyro_lfm.distributions.correlated import CorrelatedGaussian
from pyro_lfm.distributions.count_distributions import Binomial, NegativeBinomial, Poisson
from pyro_lfm.distributions.gamma import Beta, Gamma
from pyro_lfm.distributions.heavy_tails import HalfCauchy, LogNormal, StudentT
from pyro_lfm.distributions.kumaraswamy import Kumaraswamy
from pyro_lfm.distributions.low_rank import LowRankGaussian
from pyro_lfm.distributions.normal import Normal
from pyro_lfm.distributions.support_check import OWN, fault_of_draws, support_fault

ZEROS, TWOS = torch.zeros(3), torch.full((3,), 2.0)
TRUSTED = [
    Beta(TWOS, TWOS),
    Binomial(torch.tensor(9), probs=torch.tensor([0.2, 0.5, 0.9])),
    CorrelatedGaussian(ZEROS, scale_tril=torch.eye(3) + 0.5 * torch.ones(3, 3).tril(-1)),
    Gamma(TWOS, TWOS),
    HalfCauchy(TWOS),
    Kumaraswamy(TWOS, TWOS),
    LogNormal(ZEROS, TWOS / 2),
    LowRankGaussian(ZEROS, TWOS, torch.ones(3, 1)),
    NegativeBinomial(TWOS, log_mean=TWOS),
    Normal(ZEROS, TWOS),
    Poisson(TWOS),
    StudentT(5 * TWOS, ZEROS, TWOS),
]


def test_every_trusted_distribution_is_checked_here():
    assert {type(distribution) for distribution in TRUSTED} == set(OWN)


@pytest.mark.parametrize("distribution", TRUSTED, ids=lambda distribution: type(distribution).__name__)
def test_a_trusted_distribution_draws_on_all_of_its_support(distribution):
    """1000 draws: sound distributions are refused by chance below 1e-10."""
    assert fault_of_draws(distribution) is None


def test_a_subclass_that_declares_another_support_is_not_trusted():
    class Halved(Normal):
        def sample(self, sample_shape=()):
            return super().sample(sample_shape).abs()

        rsample = sample

    assert "goes on beyond them" in support_fault(Halved(torch.zeros(1), torch.ones(1)).to_event(1))
    assert support_fault(dist.VonMises(0.0, 4.0)) is not None
