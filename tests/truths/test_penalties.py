"""Penalties on the aggregate of the guide, against a closed form and against the formula written out in loops."""

import math

import pytest
import torch

import pyro_lfm as lfm

ROWS, FACTORS = 12, 3


def encoder(covariance):
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(FACTORS), x=lfm.Gaussian(4, mean=lfm.MLP(6))).double()
    guide = lfm.Guide(model, z=lfm.Gaussian(covariance=covariance, network=lfm.MLP(6))).double()
    return model, guide, 3 * torch.randn(ROWS, 4, dtype=torch.float64)


@pytest.mark.parametrize("covariance", [lfm.Diagonal, lfm.LowRank, lfm.Full])
@pytest.mark.parametrize("total", [ROWS, 1000])
def test_total_correlation_is_its_formula(covariance, total):
    """Every log q(zᵢ | xⱼ), joint and of each entry, taken by itself from torch's distributions."""
    model, guide, x = encoder(covariance(2) if covariance is lfm.LowRank else covariance())
    penalty = lfm.TotalCorrelation()
    with torch.no_grad():
        run = lfm.ELBO().run(model, guide, (lfm.Batch(x, total=total),), {})
        value = float(penalty.of(run, penalty.names(run)))
        z, distribution = run.q["z"]["value"].reshape(ROWS, FACTORS), guide.factors["z"](x)
        scale = distribution.variance.sqrt()
        expected = 0.0
        for i in range(ROWS):
            joint = distribution.log_prob(z[i]).logsumexp(0)
            entries = torch.distributions.Normal(distribution.mean, scale).log_prob(z[i]).logsumexp(0)
            count = math.log(ROWS * total)
            expected += float((joint - count) - (entries - count).sum()) / ROWS
    assert value == pytest.approx(expected, abs=1e-9)


def test_total_correlation_does_not_see_a_bend_of_each_entry():
    """A positive latent, whose guide is carried by exp, has the total correlation of its logarithm."""
    _, plain, x = encoder(lfm.Full())
    likelihood = lfm.Gaussian(4, mean=lfm.MLP(6))
    positive = lfm.Model(z=lfm.LogNormal(FACTORS), x=likelihood).double()
    carried = lfm.Guide(positive, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(6))).double()
    carried.load_state_dict(plain.state_dict())
    real = lfm.Model(z=lfm.StandardNormal(FACTORS), x=likelihood).double()
    values = []
    for model, guide in ((real, plain), (positive, carried)):
        torch.manual_seed(1)
        run = lfm.ELBO().run(model, guide, (lfm.Batch(x),), {})
        values.append(float(lfm.TotalCorrelation().of(run, ["z"]).detach()))
    assert values[0] == pytest.approx(values[1], abs=1e-9)
    assert abs(values[0]) > 0.1


def discrepancy(mean, variance, bandwidth):
    """MMD² of N(m, vI) and N(0, I): E k(a, b) = (h² / (h² + τ²))^(K/2) exp(−|μ|² / 2(h² + τ²)), a − b ~ N(μ, τ²I)."""

    def kernel(between, spread):
        wide = bandwidth**2 + spread
        return (bandwidth**2 / wide) ** (FACTORS / 2) * math.exp(-between / (2 * wide))

    return kernel(0, 2 * variance) + kernel(0, 2) - 2 * kernel(FACTORS * mean**2, 1 + variance)


@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (1.0, 1.0), (0.5, 0.25)])
def test_the_discrepancy_is_unbiased(mean, variance):
    """400 estimates from 64 rows within 4.5 standard errors: one false alarm in 10⁵, were they normal."""
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(FACTORS), x=lfm.Gaussian(4, mean=lfm.MLP(6)))
    guide = lfm.Guide(
        model, z=lfm.Gaussian(mean=lfm.Fixed(mean), covariance=lfm.Isotropic(lfm.Fixed(variance)))
    )
    penalty = lfm.MaximumMeanDiscrepancy(bandwidth=1.5)
    batch = lfm.Batch(torch.zeros(64, 4))
    values = []
    with torch.no_grad():
        for _ in range(400):
            run = lfm.ELBO().run(model, guide, (batch,), {})
            values.append(float(penalty.of(run, penalty.names(run))))
    estimates = torch.tensor(values, dtype=torch.float64)
    off = float(estimates.mean()) - discrepancy(mean, variance, 1.5)
    assert abs(off) < 4.5 * float(estimates.std()) / math.sqrt(len(values))


def test_weights_multiply_penalties_and_leave_the_bound_of_the_rows_alone():
    model, guide, x = encoder(lfm.Diagonal())
    torch.manual_seed(1)
    plain = lfm.ELBO().bound(model, guide, x)
    torch.manual_seed(1)
    bound = lfm.Penalised(lfm.ELBO(), lfm.TotalCorrelation(weight=5.0)).bound(model, guide, x)
    assert torch.equal(plain.per_row, bound.per_row)
    taken = float(plain.objective - bound.objective)
    assert taken == pytest.approx(5 * float(bound.penalties["TotalCorrelation"]), abs=1e-9)
