"""The laws that torch lacks: mixtures over draws, pushed-forward Gaussians, marginals of what was observed."""

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import MultivariateNormal
from torch.distributions.transforms import ExpTransform

import pyro_lfm as lfm
from pyro_lfm.distributions.masking import observed_part
from pyro_lfm.distributions.mixture import DrawMixture
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.distributions.soundness import law_faults


def components(seed=0, draws=6, rows=3, dim=2):
    generator = torch.Generator().manual_seed(seed)
    return dist.Normal(torch.randn(draws, rows, dim, generator=generator), 0.5).to_event(1)


def test_a_mixture_over_draws_is_an_equal_mixture_of_its_components():
    law = components()
    mixture = DrawMixture(law)
    assert mixture.batch_shape == (3,) and mixture.event_shape == (2,)
    x = torch.randn(3, 2)
    expected = torch.stack([law.base_dist.log_prob(x).sum(-1)[s].exp() for s in range(6)]).mean(0).log()
    assert torch.allclose(mixture.log_prob(x), expected, atol=1e-5)
    assert torch.allclose(mixture.log_prob(x.expand(4, 3, 2)), expected.expand(4, 3), atol=1e-5)
    draws = mixture.sample((40_000,))
    # Within 5 standard errors: 12 numbers, false alarm below 1e-5.
    assert ((draws.mean(0) - mixture.mean).abs() < 5 * mixture.variance.sqrt() / 200).all()
    assert torch.allclose(draws.var(0), mixture.variance, rtol=0.06)
    assert law_faults(DrawMixture(components(rows=2))) == []


def test_the_moments_of_a_pushed_forward_law():
    law = Pushforward(dist.Normal(torch.zeros(3), 0.5).to_event(1), [ExpTransform()])
    exact = dist.LogNormal(torch.zeros(3), 0.5)
    assert torch.allclose(law.mean, exact.mean, rtol=0.05)
    assert torch.allclose(law.variance, exact.variance, rtol=0.3)
    assert law.expand((4,)).sample().shape == (4, 3)
    assert torch.equal(law.mean, law.mean)  # a fixed seed: reading it twice gives the same


@pytest.mark.parametrize("covariance", [lfm.Isotropic(), lfm.Diagonal(), lfm.LowRank(2), lfm.Full()])
@pytest.mark.parametrize("event", [(4,), (2, 2)])
def test_the_marginal_of_what_was_observed_is_exact(covariance, event):
    event = torch.Size(event)
    torch.manual_seed(0)
    raw = torch.randn(5, *covariance.raw_shape(event), dtype=torch.float64)
    law = covariance.distribution(torch.randn(5, *event, dtype=torch.float64), raw, event)
    x = torch.randn(5, *event, dtype=torch.float64)
    mask = torch.rand(5, *event) < 0.6
    mask[0], mask[1] = True, False
    marginal = observed_part(law, mask, "x")
    assert marginal.event_shape == event and marginal.sample().shape == (5, *event)
    base = getattr(law, "base_dist", law)
    dense = getattr(base, "covariance_matrix", None)
    dense = torch.diag_embed(law.variance.flatten(1)) if dense is None else dense
    found = marginal.log_prob(x.where(mask, torch.zeros(())))
    for row in range(5):
        seen = mask[row].flatten()
        if not seen.any():
            assert found[row] == 0
            continue
        mean = law.mean[row].flatten()[seen]
        part = MultivariateNormal(mean, dense[row][seen][:, seen])
        assert torch.allclose(found[row], part.log_prob(x[row].flatten()[seen]))


def test_a_law_that_cannot_be_divided_takes_whole_rows_only():
    law = dist.Dirichlet(torch.ones(2, 3))
    x = torch.full((2, 3), 1 / 3)
    whole = torch.tensor([[True] * 3, [False] * 3])
    assert observed_part(law, whole, "x").log_prob(x)[1] == 0
    with pytest.raises(lfm.DataError, match="x has rows with some entries missing"):
        observed_part(law, torch.tensor([[True, False, True]] * 2), "x")
    assert observed_part(law, None, "x") is law
    label = dist.Categorical(torch.ones(2, 3))
    assert observed_part(label, torch.tensor([True, False]), "y").log_prob(torch.zeros(2))[1] == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_fit_on_a_gpu_is_the_same_program():
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(8)))
    guide = lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(8)))
    fit = lfm.fit(model, torch.randn(50, 4), lfm.SVI(guide, epochs=2), seed=0, progress=False)
    assert fit.posterior().mean.device.type == "cuda"
