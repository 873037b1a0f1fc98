"""KL(q ‖ p) in closed form: every pair of Gaussians, the same map of both, and the pairs of torch."""

import cases
import pyro.distributions as dist
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.distributions.kl import kl_closed_form


def distribution(name, seed, event=(3,), rows=5):
    """A Gaussian of each structure with random parameters, batch (rows,)."""
    generator = torch.Generator().manual_seed(seed)
    covariance = cases.COVARIANCES[name]()
    event = torch.Size(event)

    def draw(shape):
        return torch.randn(rows, *shape, generator=generator, dtype=torch.float64)

    floor = torch.tensor(1e-3, dtype=torch.float64)
    return covariance.distribution(draw(event), draw(covariance.raw_shape(event)), event, floor)


def dense(gaussian):
    """Mean (rows, D) and covariance (rows, D, D) of a Gaussian of any structure."""
    base = getattr(gaussian, "base_dist", gaussian)
    if hasattr(base, "covariance_matrix"):
        return base.loc, base.covariance_matrix
    flat = gaussian.variance.flatten(1)
    return gaussian.mean.flatten(1), torch.diag_embed(flat)


@pytest.mark.parametrize("event", [(3,), (2, 2)])
@pytest.mark.parametrize("p_name", cases.COVARIANCES)
@pytest.mark.parametrize("q_name", cases.COVARIANCES)
def test_every_pair_of_gaussians(q_name, p_name, event):
    """Against the dense formula with explicit inverses and determinants."""
    q, p = distribution(q_name, 0, event), distribution(p_name, 1, event)
    (mq, sq), (mp, sp) = dense(q), dense(p)
    inverse = torch.linalg.inv(sp)
    gap = mp - mq
    trace = torch.einsum("bij,bji->b", inverse, sq)
    quadratic = torch.einsum("bi,bij,bj->b", gap, inverse, gap)
    expected = 0.5 * (trace + quadratic - gap.shape[-1] + torch.logdet(sp) - torch.logdet(sq))
    assert torch.allclose(kl_closed_form(q, p), expected, atol=1e-10)


@pytest.mark.parametrize("name", cases.COVARIANCES)
def test_the_kl_from_itself_is_zero(name):
    assert kl_closed_form(distribution(name, 0), distribution(name, 0)).abs().max() < 1e-10


def test_batches_broadcast():
    q, p = distribution("full", 0), dist.Normal(torch.zeros(3, dtype=torch.float64), 1.0).to_event(1)
    assert kl_closed_form(q, p).shape == (5,)
    assert kl_closed_form(p, q).shape == (5,)


def test_other_pairs_use_what_torch_registers_or_have_none():
    gamma = dist.Gamma(torch.tensor([2.0, 3.0]), torch.tensor([1.0, 1.0])).to_event(1)
    assert kl_closed_form(gamma, gamma).item() == pytest.approx(0.0)
    laplace = dist.Laplace(torch.zeros(3, dtype=torch.float64), 1.0).to_event(1)
    assert kl_closed_form(distribution("full", 0), laplace) is None


@pytest.mark.parametrize("covariance", cases.COVARIANCES)
@pytest.mark.parametrize("prior", ["log-normal", "logistic-normal"])
def test_under_the_same_map_it_is_that_of_the_base_gaussians(prior, covariance):
    """Against an average over 20,000 draws, within 5 standard errors: false alarm below 1e-5 in all."""
    torch.manual_seed(0)
    model = cases.one_latent(prior).double()
    guide = cases.guide_for(model, lambda: lfm.Gaussian(covariance=cases.COVARIANCES[covariance]()))
    assert "KL z: closed form" in lfm.describe(model, guide)
    q, p = guide.distribution("z", {}, lfm.Batch(torch.zeros(1, cases.D))), model.factors["z"]()
    with torch.no_grad():
        draws = q.sample((20_000,))
        terms = q.log_prob(draws) - p.log_prob(draws)
        assert abs(kl_closed_form(q, p) - terms.mean()) <= 5 * terms.std() / 20_000**0.5 + 1e-10
