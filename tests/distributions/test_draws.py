"""Draws beyond the range of torch's samplers: moments, often of logarithms, within 6 standard errors.

There are about 300 comparisons of means. For a normal statistic one has a false alarm of 2e-9, all together below 1e-6.
"""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.special import digamma, polygamma

import pyro_lfm as lfm
from pyro_lfm.distributions import count_distributions as counts
from pyro_lfm.distributions import gamma, heavy_tails
from pyro_lfm.distributions.draw_annotations import log_complement_of, log_of
from pyro_lfm.distributions.draws import binomial_draw, log_gamma_draw, poisson_draw
from pyro_lfm.distributions.multinomial import Multinomial

KINDS = [torch.float32, torch.float64]
N = 40_000


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def agrees(values, mean, floor=0.0):
    """Asserts that the mean of draws along the first dimension is ``mean``."""
    values = values.detach().double()
    error = values.std(0) / len(values) ** 0.5 + floor
    assert ((values.mean(0) - torch.as_tensor(mean).double()).abs() < 6 * error).all(), (values.mean(0), mean)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("a", [1e-4, 1e-2, 0.3, 0.99, 1.0, 5.0, 1e4])
def test_logarithms_of_gammas_have_their_moments_and_gradients(kind, a):
    concentration = torch.tensor(a, dtype=kind, requires_grad=True)
    logs = log_gamma_draw(concentration.expand(N))
    exact = concentration.detach().double()
    agrees(logs, digamma(exact), 1e-6 * abs(math.log(a)))
    agrees((logs.double() - digamma(exact)).square(), polygamma(1, exact), 1e-6 * float(polygamma(1, exact)))
    each = concentration.detach().expand(N).clone().requires_grad_()
    torch.manual_seed(1)
    (slope,) = torch.autograd.grad(log_gamma_draw(each).sum(), each)
    agrees(slope, polygamma(1, exact), 1e-6 * float(polygamma(1, exact)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("a", [1e-3, 0.0011, 0.05, 0.5, 3.0])
def test_dirichlets_and_betas_keep_the_logarithms_of_their_shares(kind, a):
    concentration = torch.tensor([a, 2 * a, 1.0], dtype=kind)
    each = concentration.expand(N, 3).clone().requires_grad_()
    shares = gamma.Dirichlet(each).rsample()
    assert (shares > 0).all()
    assert torch.allclose(shares.sum(-1), torch.ones((), dtype=kind), atol=1e-6)
    exact, whole = concentration.double(), concentration.double().sum()
    agrees(log_of(shares), digamma(exact) - digamma(whole), 1e-5)
    agrees(shares, exact / whole)
    # Slopes of E[ln x_k] by the first concentration.
    (slope,) = torch.autograd.grad(log_of(shares)[:, 0].sum(), each)
    truth = -polygamma(1, whole).expand(3).clone()
    truth[0] += polygamma(1, exact[0])
    agrees(slope, truth, 1e-6 * float(truth[0]))
    beta = gamma.Beta(concentration[0], concentration[1]).sample((N,))
    total = exact[0] + exact[1]
    agrees(log_of(beta), digamma(exact[0]) - digamma(total), 1e-5)
    agrees(log_complement_of(beta), digamma(exact[1]) - digamma(total), 1e-5)
    assert ((beta > 0) & (beta < 1)).all()
    assert gamma.Beta(concentration[0], concentration[1]).log_prob(beta).isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_dirichlets_of_small_concentration_put_almost_all_mass_on_one_share(kind):
    """0.49% of draws have a largest share below 0.9, by 10⁷ draws through logarithms in double precision."""
    factor = lfm.Dirichlet(3, concentration=lfm.Fixed(0.0011)).build("x", []).to(kind)
    shares = factor().sample((200_000,))
    largest = shares.max(-1).values
    assert not (shares == 1 / 3).all(-1).any()
    assert abs((largest < 0.9).double().mean() - 0.0049) < 6 * (0.0049 / 200_000) ** 0.5


def test_distributions_of_pyro_in_a_program_are_sampled_by_their_stable_versions():
    class Program(lfm.PyroModel):
        def forward(self, batch):
            with batch.plate():
                shares = pyro.sample("z", dist.Dirichlet(torch.full((3,), 0.0011)))
                share = pyro.sample("y", dist.Beta(torch.full((2,), 1e-3), 1e-3).to_event(1))
                mean = shares.sum(-1, keepdim=True) + share[..., :1]
                pyro.sample("x", dist.Poisson(mean.expand(*mean.shape[:-1], 2)).to_event(1), obs=batch["x"])

    drawn = lfm.PyroModel.sample(Program(), 20_000, seed=0)
    assert not (drawn["z"] == 1 / 3).all(-1).any()
    assert ((drawn["z"].max(-1).values < 0.9).double().mean() - 0.0049).abs() < 6 * (0.0049 / 20_000) ** 0.5
    assert ((drawn["y"] > 0) & (drawn["y"] < 1)).all()
    assert ((drawn["y"] - 0.5).abs() < 0.49).double().mean() < 0.02


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [0.0, 1e-30, 0.3, 30.0, 1e7, 3e9, 1e15, 1e25])
def test_poissons_of_any_rate(kind, rate):
    rate = torch.tensor(rate, dtype=kind)
    draws = poisson_draw(rate.expand(N)).double()
    assert (draws >= 0).all()
    assert (draws == draws.round()).all()
    if rate < 1e-20:
        assert not draws.any()
        return
    # Single precision rounds counts of 10¹⁵ to multiples of 2²⁶.
    grain = float(rate) * torch.finfo(kind).eps
    agrees(draws, rate.double(), grain)
    agrees((draws - rate.double()).square(), rate.double(), grain**2 + 1e-3 * float(rate) * (grain > 1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("trials", "logits"), [(1.0, 0.0), (10.0, -30.0), (1e4, 40.0), (1e7, -14.0), (1e9, 0.0), (1e14, 3.0)]
)
def test_binomials_of_any_number_of_trials(kind, trials, logits):
    n, odds = torch.tensor(trials, dtype=kind), torch.tensor(logits, dtype=kind)
    draws = binomial_draw(n.expand(N), odds.expand(N)).double()
    assert ((draws >= 0) & (draws <= n.double())).all()
    p = odds.double().sigmoid()
    grain = trials * torch.finfo(kind).eps
    agrees(draws, n.double() * p, grain + 1e-12)
    variance = n.double() * p * (1 - p)
    agrees(
        (draws - n.double() * p).square(), variance, grain**2 + 1e-12 + 1e-3 * float(variance) * (grain > 1)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("r", [1e-6, 1e-2, 1.0, 1e6, 1e12])
def test_negative_binomials_of_any_shape(kind, r):
    mean = 4.0
    by_logits = counts.NegativeBinomial(
        torch.tensor(r, dtype=kind), torch.tensor(mean / r, dtype=torch.float64).log().to(kind)
    )
    by_mean = counts.NegativeBinomial(
        torch.tensor(r, dtype=kind), log_mean=torch.tensor(mean, dtype=kind).log()
    )
    for distribution in (by_logits, by_mean):
        draws = distribution.sample((N,)).double()
        for count in (0.0, 1.0, 4.0):
            probability = distribution.log_prob(torch.tensor(count, dtype=kind)).double().exp()
            agrees((draws == count).double(), probability, 1e-5)
        assert distribution.mean.item() == pytest.approx(mean, rel=1e-4)
        assert distribution.variance.item() == pytest.approx(mean + mean**2 / r, rel=1e-4)


@pytest.mark.parametrize("total", [3.0, 2000.0, 1e7])
def test_multinomials_of_any_total(total):
    logits = torch.tensor([0.0, 1.0, -3.0, -torch.inf])
    totals = torch.tensor([total, 1.0])
    draws = Multinomial(totals, logits.expand(2, 4)).sample((4000,)).double()
    assert (draws.sum(-1) == totals.double()).all()
    assert not draws[..., 3].any()
    shares = logits.double().softmax(-1)
    agrees(draws, totals.double()[:, None] * shares, 1e-12)
    variance = totals.double()[:, None] * shares * (1 - shares)
    agrees((draws - totals.double()[:, None] * shares).square(), variance, 1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("df", [1e-2, 0.5, 3.0, 1e6])
def test_student_ts_with_the_longest_tails(kind, df):
    degrees = torch.tensor(df, dtype=kind)
    draws = heavy_tails.StudentT(degrees).sample((N,))
    assert draws.isfinite().all()
    half = degrees.double() / 2
    if df >= 0.5 or kind == torch.float64:  # of 0.01 many are beyond single precision
        truth = 0.5 * (half.log() + math.log(2) + digamma(torch.tensor(0.5).double()) - digamma(half))
        agrees(draws.double().abs().log(), truth, 1e-5)
    assert heavy_tails.StudentT(degrees).log_prob(draws).isfinite().all()


def test_half_cauchys_reach_both_tails():
    draws = heavy_tails.HalfCauchy(torch.tensor(2.0)).sample((N,))
    agrees((draws < 2.0).double(), 0.5)
    agrees(draws.log(), math.log(2.0))
    agrees(draws.log().sub(math.log(2.0)).square(), math.pi**2 / 4)
