"""Densities against mpmath at every size: relative errors below 2e-5 in single and 2e-9 in double precision.

No probability exceeds one.
"""

import math

import mpmath
import pandas as pd
import pytest
import torch
from torch import distributions as torch_distributions

import pyro_lfm as lfm
from pyro_lfm.distributions import count_distributions as counts
from pyro_lfm.distributions import gamma, heavy_tails
from pyro_lfm.distributions.continuous_bernoulli import ContinuousBernoulli
from pyro_lfm.distributions.kl import kl_closed_form
from pyro_lfm.distributions.multinomial import Multinomial
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.distributions.support_maps import Exp
from pyro_lfm.distributions.zero_inflated import ZeroInflated

KINDS = [torch.float32, torch.float64]
TOLERANCE = {torch.float32: 2e-5, torch.float64: 2e-9}
lgamma = mpmath.loggamma


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(90):
        yield


def exact(tensor):
    return mpmath.mpf(float(tensor.detach()))


def close(value, truth, kind, what, least=1.0):
    error = abs(mpmath.mpf(float(value.detach())) - truth) / max(abs(truth), mpmath.mpf(least))
    assert error < TOLERANCE[kind], (what, float(value), float(truth))


def tensor(value, kind, grad=True):
    return torch.tensor(float(value), dtype=kind, requires_grad=grad)


def log_negative_binomial(x, r, logits):
    return (
        lgamma(x + r)
        - lgamma(r)
        - lgamma(x + 1)
        - x * mpmath.log1p(mpmath.exp(-logits))
        - r * mpmath.log1p(mpmath.exp(logits))
    )


def near(mean, deviations):
    """Counts about a mean, at some standard deviations, and zero."""
    return sorted({0.0, *(max(0.0, round(mean + z * max(1.0, math.sqrt(mean)))) for z in deviations)})


MEANS = [1e-30, 1e-3, 0.7, 5.0, 300.0, 1e5, 1e7, 1e10]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mean", MEANS)
def test_a_poisson_and_its_gradient(kind, mean):
    for count in near(mean, (-5, 0, 1, 30)):
        rate, x = tensor(mean, kind), tensor(count, kind, False)
        log_prob = lfm.Poisson(1).distribution(rate=rate[None]).log_prob(x[None])
        truth = exact(x) * mpmath.log(exact(rate)) - exact(rate) - lgamma(exact(x) + 1)
        close(log_prob, truth, kind, (mean, count))
        assert log_prob <= 0
        (slope,) = torch.autograd.grad(log_prob, rate)
        close(slope, exact(x) / exact(rate) - 1, kind, (mean, count), 1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("r", [1e-10, 1e-3, 1.0, 40.0, 1e6, 1e7, 1e10, 1e20])
def test_a_negative_binomial_and_its_gradients(kind, r):
    for mean in MEANS:
        for count in near(mean, (-3, 0, 2, 50)):
            total, x = tensor(r, kind), tensor(count, kind, False)
            logits = tensor(mpmath.log(mpmath.mpf(mean) / r), kind)
            log_prob = counts.NegativeBinomial(total, logits).log_prob(x)
            truth = log_negative_binomial(exact(x), exact(total), exact(logits))
            close(log_prob, truth, kind, (r, mean, count))
            assert log_prob <= 0
            by_r, by_logits = torch.autograd.grad(log_prob, (total, logits))
            p = 1 / (1 + mpmath.exp(exact(logits)))
            slope = exact(x) * p - exact(total) * (1 - p)
            close(by_logits, slope, kind, (r, mean, count), 1e-3 * (mean * float(p) + 1e-30))
            slope = (
                mpmath.digamma(exact(x) + exact(total)) - mpmath.digamma(exact(total)) + mpmath.log(p)
            ) * exact(total)
            # exp(logits) is rounded, which moves the mean. The tolerance allows for that.
            close(by_r * total, slope, kind, (r, mean, count), max(1.0, 1e-7 * mean))


@pytest.mark.parametrize("kind", KINDS)
def test_a_negative_binomial_of_a_given_mean_becomes_a_poisson(kind):
    for mean in MEANS[1:]:
        for count in near(mean, (0, 2)):
            rate, x = tensor(mean, kind, False), tensor(count, kind, False)
            poisson = counts.Poisson(rate).log_prob(x)
            spread = counts.NegativeBinomial(
                tensor(1e25, kind, False), log_mean=rate.double().log()
            ).log_prob(x)
            close(spread, exact(poisson), kind, (mean, count))


def test_large_counts_and_shapes_in_single_precision():
    assert float(counts.Poisson(torch.tensor(1e7)).log_prob(torch.tensor(1e7))) == pytest.approx(
        -8.978, abs=1e-3
    )
    few = counts.NegativeBinomial(torch.tensor(1e7), (torch.tensor(5.0) / 1e7).log())
    assert float(few.log_prob(torch.tensor(5.0))) == pytest.approx(-1.7403, abs=1e-4)
    factor = lfm.NegativeBinomial(1, total_count=lfm.Fixed(1e10), logits=lfm.Fixed(math.log(5e-10)))
    assert float(factor.build("x", [])().log_prob(torch.tensor([5.0]))) == pytest.approx(-1.7403, abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trials", [1.0, 2.0, 1e3, 1e7, 1e10])
def test_a_binomial_and_its_gradient(kind, trials):
    for logits in (-80.0, -12.0, -1.0, 0.0, 1e-3, 3.0, 40.0):
        p = 1 / (1 + math.exp(-logits))
        deviation = math.sqrt(trials * p * (1 - p) + 1)
        for z in (-1e9, -4, 0, 1, 40, 1e9):
            count = min(trials, max(0.0, round(trials * p + z * deviation)))
            n, odds = tensor(trials, kind, False), tensor(logits, kind)
            x = torch.minimum(tensor(count, kind, False), n)
            log_prob = counts.Binomial(n, logits=odds).log_prob(x)
            k, m, at = exact(x), exact(n), exact(odds)
            truth = lgamma(m + 1) - lgamma(k + 1) - lgamma(m - k + 1)
            truth -= k * mpmath.log1p(mpmath.exp(-at)) + (m - k) * mpmath.log1p(mpmath.exp(at))
            close(log_prob, truth, kind, (trials, logits, count))
            assert log_prob <= 0
            (slope,) = torch.autograd.grad(log_prob, odds)
            right = k - m / (1 + mpmath.exp(-at))
            close(slope, right, kind, (trials, logits, count), 1e-3 * (trials * p + 1e-30))


def test_a_marginal_of_counts_has_one_density_for_each_draw_of_its_total_and_probabilities():
    """Totals and probabilities may have dimensions, those of draws, that the rows do not have."""
    rows, observed = torch.tensor([[1.0, 2.0, 9.0], [0.0, 4.0, 9.0]]), torch.tensor([True, True, False])
    logits = torch.randn(3, 2, 3)
    several = Multinomial(torch.full((3, 2), 7.0), logits, observed=observed.expand(2, 3)).log_prob(rows)
    one_by_one = [
        Multinomial(torch.tensor(7.0), each, observed=observed).log_prob(row)
        for draw in logits
        for each, row in zip(draw, rows, strict=True)
    ]
    assert torch.allclose(several.flatten(), torch.stack(one_by_one)) and several.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("total", [3.0, 1e4, 1.6e7])
def test_a_multinomial_and_the_marginal_of_some_of_its_counts(kind, total):
    torch.manual_seed(0)
    for spread in (0.1, 3.0, 30.0):
        logits = (spread * torch.randn(5, dtype=kind)).requires_grad_()
        distribution = Multinomial(tensor(total, kind, False), logits)
        x = distribution.sample()
        assert x.sum() == total
        weights = [mpmath.exp(exact(one)) for one in logits]
        shares = [weight / sum(weights) for weight in weights]
        truth = lgamma(mpmath.mpf(total) + 1)
        truth += sum(exact(k) * mpmath.log(p) - lgamma(exact(k) + 1) for k, p in zip(x, shares, strict=True))
        log_prob = distribution.log_prob(x)
        close(log_prob, truth, kind, (total, spread))
        assert log_prob <= 0
        (slope,) = torch.autograd.grad(log_prob, logits)
        for k, p, one in zip(x, shares, slope, strict=True):
            close(one, exact(k) - mpmath.mpf(total) * p, kind, (total, spread), 1e-2 * total)
        observed = torch.tensor([True, False, True, False, True])
        rest = exact((x * ~observed).sum())
        known = [(exact(k), p) for k, p, is_seen in zip(x, shares, observed, strict=True) if is_seen]
        left = 1 - sum(p for _, p in known)
        truth = lgamma(mpmath.mpf(total) + 1) + sum(k * mpmath.log(p) - lgamma(k + 1) for k, p in known)
        truth += rest * mpmath.log(left) - lgamma(rest + 1)
        close(distribution.marginal(observed).log_prob(x), truth, kind, (total, spread, "marginal"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gate", [-40.0, 0.0, 40.0])
def test_counts_with_more_zeros(kind, gate):
    for mean in (1e-3, 5.0, 1e7):
        gates = tensor(gate, kind)
        inflated = ZeroInflated(counts.Poisson(tensor(mean, kind, False)), gates)
        for count in near(mean, (0, 3)):
            x, rate = exact(tensor(count, kind, False)), exact(tensor(mean, kind, False))
            counted = mpmath.exp(x * mpmath.log(rate) - rate - lgamma(x + 1)) / (1 + mpmath.exp(gate))
            extra = 1 / (1 + mpmath.exp(-gate)) if count == 0 else 0
            log_prob = inflated.log_prob(tensor(count, kind, False))
            close(log_prob, mpmath.log(extra + counted), kind, (gate, mean, count))
            assert torch.autograd.grad(log_prob, gates)[0].isfinite()
        share = 1 / (1 + mpmath.exp(gate))
        truth = share * (rate + rate**2) - (share * rate) ** 2
        close(inflated.variance, truth, kind, (gate, mean), 1e-30)


def test_impossible_counts_have_no_probability():
    assert counts.Poisson(torch.tensor(2.0), validate_args=False).log_prob(torch.tensor(-1.0)) == -torch.inf
    assert (
        counts.NegativeBinomial(torch.tensor(2.0), torch.tensor(0.0)).log_prob(torch.tensor(-1.0))
        == -torch.inf
    )
    binomial = counts.Binomial(torch.tensor(3.0), logits=torch.tensor(0.0), validate_args=False)
    assert (binomial.log_prob(torch.tensor([-1.0, 4.0])) == -torch.inf).all()
    never = counts.Poisson(torch.tensor(0.0))
    assert never.log_prob(torch.tensor([0.0, 1.0])).tolist() == [0.0, -math.inf]
    rate = torch.tensor(0.0, requires_grad=True)
    assert torch.autograd.grad(counts.Poisson(rate).log_prob(torch.tensor(0.0)), rate)[0] == -1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "logit",
    [-1e6, -90.0, -40.0, -30.0, -16.0, -1.01, -0.99, -1e-3, 0.0, 1e-20, 0.04, 0.06, 2.0, 17.0, 300.0, 1e30],
)
def test_a_continuous_bernoulli_at_every_logit(kind, logit):
    logits = tensor(logit, kind)
    distribution, at = ContinuousBernoulli(logits), exact(logits)

    def log_normaliser(t):
        if abs(t) < 1e-12:
            return t / 2
        return t - mpmath.log(t) if t > 1e5 else mpmath.log(mpmath.expm1(t) / t)

    mean = mpmath.mpf("0.5") + at / 12 if abs(at) < 1e-12 else 1 / (1 - mpmath.exp(-at)) - 1 / at
    for value in (0.0, 1e-5, 0.3, 0.5, 1.0):
        x = tensor(value, kind, False)
        log_prob = distribution.log_prob(x)
        truth = at * exact(x) - log_normaliser(at)
        close(log_prob, truth, kind, (logit, value))
        close(torch.autograd.grad(log_prob, logits)[0], exact(x) - mean, kind, (logit, value), 1e-2)
        quantile = distribution.icdf(x)
        assert 0 <= quantile <= 1
        assert torch.autograd.grad(quantile, logits)[0].isfinite()
        if 1e-10 < abs(at) < 500:
            truth = mpmath.log1p(exact(x) * mpmath.expm1(at)) / at
            close(quantile, truth, kind, (logit, value, "quantile"))
            close(distribution.cdf(quantile), exact(x), kind, (logit, value, "cdf"))
    close(distribution.mean, mean, kind, (logit, "mean"), 1e-30)
    if 1e-3 <= abs(at) < 1e4:
        variance = 1 / at**2 - 1 / (4 * mpmath.sinh(at / 2) ** 2)
        close(distribution.variance, variance, kind, (logit, "variance"), 1e-30)
        close(distribution.entropy(), log_normaliser(at) - at * mean, kind, (logit, "entropy"))
    draws = distribution.sample((4000,)).double()
    error = (distribution.variance.double().sqrt() / 4000**0.5).detach()
    # 32 comparisons at 5 standard errors: false alarm below 2e-5.
    assert (draws.mean() - distribution.mean.double()).abs() < 5 * error + 1e-7


def test_a_black_pixel_at_a_very_negative_logit():
    grey = lfm.ContinuousBernoulli(1, logits=lfm.Fixed(-30.0)).build("x", [])()
    assert float(grey.log_prob(torch.tensor([0.0]))) == pytest.approx(3.401197, abs=1e-6)


CONCENTRATIONS = [1e-4, 0.03, 1.0, 2.5, 1e4, 1e8]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("a", CONCENTRATIONS)
def test_gammas_betas_and_dirichlets_and_their_gradients(kind, a):
    for b in CONCENTRATIONS:
        one, other = tensor(a, kind), tensor(b, kind)
        p, q = exact(one), exact(other)
        x = tensor(min(max(a / b * (1 + 1 / math.sqrt(a)), 1e-30), 1e30), kind, False)
        log_prob = gamma.Gamma(one, other).log_prob(x)
        truth = p * mpmath.log(q) + (p - 1) * mpmath.log(exact(x)) - q * exact(x) - lgamma(p)
        close(log_prob, truth, kind, ("gamma", a, b))
        slope = (mpmath.log(q) + mpmath.log(exact(x)) - mpmath.digamma(p)) * p
        close(torch.autograd.grad(log_prob, one)[0] * one, slope, kind, ("gamma", a, b))
        for share in (1e-30, 0.2, 0.999, a / (a + b)):
            x = tensor(share, kind, False).clamp(1e-37, 0.9999)
            log_prob = gamma.Beta(one, other).log_prob(x)
            truth = (p - 1) * mpmath.log(exact(x)) + (q - 1) * mpmath.log(1 - exact(x))
            truth += lgamma(p + q) - lgamma(p) - lgamma(q)
            close(log_prob, truth, kind, ("beta", a, b, share))
        concentration = torch.stack([one, other, torch.tensor(3.0, dtype=kind)]).detach()
        shares = (concentration.double() / concentration.double().sum()).to(kind).clamp_min(1e-37)
        truth = lgamma(sum(map(exact, concentration)))
        for c, s in zip(concentration, shares, strict=True):
            truth += (exact(c) - 1) * mpmath.log(exact(s)) - lgamma(exact(c))
        close(gamma.Dirichlet(concentration).log_prob(shares), truth, kind, ("dirichlet", a, b))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("df", [0.01, 1.5, 4.0, 1e4, 1e7, 1e15])
def test_a_student_t_near_and_far(kind, df):
    for value in (0.0, 1e-6, 1.0, 1e4, 1e25):
        degrees, x = tensor(df, kind), tensor(value, kind)
        n, at = exact(degrees), exact(x)
        truth = lgamma((n + 1) / 2) - lgamma(n / 2) - mpmath.log(mpmath.pi * n) / 2
        truth -= (n + 1) / 2 * mpmath.log1p(at**2 / n)
        log_prob = heavy_tails.StudentT(degrees).log_prob(x)
        close(log_prob, truth, kind, (df, value))
        assert all(slope.isfinite() for slope in torch.autograd.grad(log_prob, (degrees, x)))


def test_divergences_of_sharp_distributions_in_single_precision():
    """KL of Gammas whose shapes differ by a thousandth, against mpmath. torch's formulas are off by tens of nats."""
    for a in (1e2, 1e5, 1e8):
        c = a * 1.001
        p, q = (mpmath.mpf(float(torch.tensor(value))) for value in (a, c))
        truth = (p - q) * mpmath.digamma(p) - lgamma(p) + lgamma(q)
        one, other = (gamma.Gamma(torch.tensor(value), torch.tensor(1.0)) for value in (a, c))
        close(kl_closed_form(one, other), truth, torch.float32, a, 1e-2)
        rates = counts.Poisson(torch.tensor(a)), counts.Poisson(torch.tensor(c))
        close(kl_closed_form(*rates), p * mpmath.log(p / q) - p + q, torch.float32, a, 1e-2)
        pairs = [gamma.Beta(torch.tensor(value), torch.tensor(a)) for value in (a, c)]
        total = p + p
        truth = lgamma(total) - lgamma(p) - lgamma(p + q) + lgamma(q)
        truth += (p - q) * mpmath.digamma(p) + (p + q - total) * mpmath.digamma(total)
        close(kl_closed_form(*pairs), truth, torch.float32, a, 1e-2)
        normal = Pushforward(torch_distributions.Normal(torch.tensor(0.0), torch.tensor(1e-2)), [Exp()])
        variance = mpmath.mpf(float(torch.tensor(1e-2))) ** 2
        truth = lgamma(p) - p * mpmath.log(p) + p * mpmath.exp(variance / 2)
        truth -= mpmath.log(2 * mpmath.pi * mpmath.e * variance) / 2
        sharp = gamma.Gamma(torch.tensor(a), torch.tensor(a))
        close(kl_closed_form(normal, sharp), truth, torch.float32, a, 1e-2)


@pytest.mark.parametrize(
    "family", ["Gamma", "Beta", "Dirichlet", "Poisson", "Binomial", "ContinuousBernoulli"]
)
def test_divergences_and_entropies_are_those_of_torch_where_these_are_accurate(family):
    torch.manual_seed(0)
    a, b, c, d = torch.rand(4, 3, dtype=torch.float64) * 4 + 0.3
    n = torch.tensor(7.0, dtype=torch.float64)
    ours, its = {
        "Gamma": ((gamma.Gamma(a, b), gamma.Gamma(c, d)), 0),
        "Beta": ((gamma.Beta(a, b), gamma.Beta(c, d)), 0),
        "Dirichlet": ((gamma.Dirichlet(a), gamma.Dirichlet(c)), 0),
        "Poisson": ((counts.Poisson(a), counts.Poisson(c)), 0),
        "Binomial": ((counts.Binomial(n, logits=a - 2), counts.Binomial(n, logits=c - 2)), 0),
        "ContinuousBernoulli": (
            (ContinuousBernoulli(a), ContinuousBernoulli(-c)),
            tuple(torch_distributions.ContinuousBernoulli(logits=logits) for logits in (a, -c)),
        ),
    }[family]
    q, p = its or ours
    truth = torch_distributions.kl_divergence(q, p)
    torch.testing.assert_close(kl_closed_form(*ours), truth)
    if ours[0].batch_shape:
        torch.testing.assert_close(kl_closed_form(*(one.to_event(1) for one in ours)), truth.sum())
    if family not in ("Poisson", "Binomial"):
        entropy = getattr(torch_distributions, family).entropy(q)
        torch.testing.assert_close(ours[0].entropy(), entropy)


@pytest.mark.slow
def test_intervals_of_a_poisson_column_of_a_million_are_as_wide_as_they_must_be():
    """90% of Poisson(10⁶) lie in an interval of width 3290. With 80 missing entries the coverage is 0.9 ± 0.034."""
    import numpy as np

    rng = np.random.default_rng(0)
    age, big = rng.normal(size=400), rng.poisson(1e6, size=400).astype(float)
    frame = pd.DataFrame({"age": age, "big": big, "other": age + 0.1 * rng.normal(size=400)})
    frame.loc[::5, "big"] = np.nan
    table = lfm.heterogeneous(frame, kinds={"big": "count"})
    model = lfm.Model(z=lfm.StandardNormal(1), **table)
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(16)))
    fit = lfm.fit(model, table.data, lfm.SVI(guide, epochs=300, learning_rate=1e-2), seed=0, progress=False)
    low, high = (table.decode(end)["big"] for end in fit.impute(draws=400, seed=0).interval(0.9))
    gone = frame["big"].isna()
    assert 3000 < (high - low)[gone].mean() < 4000
    assert 0.75 < ((low <= big) & (big <= high))[gone].mean()
