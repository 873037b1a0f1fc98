"""Draws that are functions of noise have their distribution, and a row's posterior does not depend on the other rows."""

import cases
import pyro.distributions as dist
import pytest
import torch
from torch.distributions.transforms import ExpTransform

import pyro_lfm as lfm
from pyro_lfm.distributions.noise_draws import CommonNoise, NotOfNoise, draw_from
from pyro_lfm.distributions.partially_observed import PartiallyObserved
from pyro_lfm.distributions.pushforward import Pushforward

F64 = torch.float64
LOC = torch.tensor([0.5, -1.0, 2.0], dtype=F64)
TRIL = torch.tensor([[1.0, 0.0, 0.0], [0.5, 2.0, 0.0], [-1.0, 0.3, 0.7]], dtype=F64)
COMPONENTS = dist.Normal(torch.stack([LOC, 3 * LOC]), 0.5).to_event(1)

# Each with a batch of two rows.
DISTRIBUTIONS = {
    "normal": dist.Normal(LOC, 2.0).to_event(1),
    "full": dist.MultivariateNormal(LOC, scale_tril=TRIL),
    "low-rank": dist.LowRankMultivariateNormal(LOC, TRIL[:, :2], LOC.square()),
    "laplace": dist.Laplace(LOC, 2.0).to_event(1),
    "student-t": dist.StudentT(8.0, LOC, 2.0).to_event(1),
    "uniform": dist.Uniform(LOC, LOC + 2).to_event(1),
    "log-normal": Pushforward(dist.Normal(LOC, 0.3).to_event(1), [ExpTransform()]),
    "bernoulli": dist.Bernoulli(torch.tensor([0.1, 0.5, 0.9], dtype=F64)).to_event(1),
    "mixture": dist.MixtureSameFamily(dist.Categorical(torch.tensor([0.3, 0.7], dtype=F64)), COMPONENTS),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_draws_from_noise_have_the_moments_of_the_distribution(name):
    """Within six standard errors of independent draws, of which these have smaller errors: no false alarm above 1e-7."""
    distribution = DISTRIBUTIONS[name].expand((2,))
    draws = draw_from(distribution, CommonNoise(20_000, batch=1)).expand(20_000, 2, 3)
    torch.manual_seed(0)
    others = distribution.sample((20_000,))
    for power in (1, 2):
        error = 6 * (2 / 20_000) ** 0.5 * (others**power).std(0)
        assert ((draws**power).mean(0) - (others**power).mean(0) <= error).all()
    cross, expected = (torch.einsum("sbi,sbj->bij", values, values) / 20_000 for values in (draws, others))
    torch.testing.assert_close(cross, expected, rtol=0.1, atol=0.3)
    assert torch.equal(draws[:, 0], draws[:, 1])


def test_labels_are_drawn_by_their_probabilities():
    probs = torch.tensor([[0.2, 0.5, 0.3], [0.0, 0.0, 1.0]], dtype=F64)
    draws = draw_from(dist.Categorical(probs), CommonNoise(10_000, batch=1))
    counts = torch.nn.functional.one_hot(draws, 3).double().mean(0)
    torch.testing.assert_close(counts, probs, atol=1e-3, rtol=0)
    known = PartiallyObserved(dist.Categorical(probs), torch.tensor([1, 1]), torch.tensor([True, False]))
    assert draw_from(known, CommonNoise(5, batch=1)).tolist() == 5 * [[1, 2]]


def test_a_distribution_that_is_drawn_by_rejection_says_so():
    with pytest.raises(NotOfNoise, match="Gamma has draws that are no function"):
        draw_from(dist.Gamma(2.0, 1.0), CommonNoise(5, batch=0))


@pytest.mark.parametrize("name", ["flow", "bottom-up", "simplex"])
def test_the_posterior_of_a_row_does_not_depend_on_the_rows_beside_it(name):
    if name == "bottom-up":
        model = cases.two_layers()
        z2 = lfm.Gaussian(network=lfm.MLP(6), given="z1")
        guide = lfm.Guide(model, z1=lfm.Gaussian(network=lfm.MLP(6), given="x"), z2=z2)
    else:
        model = cases.one_latent("dirichlet") if name == "simplex" else cases.plain()
        guide = lfm.Guide(model, z=(lfm.Flow if name == "flow" else lfm.Gaussian)(network=lfm.MLP(6)))
    rows = torch.randn(30, cases.D, generator=torch.Generator().manual_seed(0))
    fit = lfm.fit(model, rows, lfm.SVI(guide, epochs=2), seed=0, progress=False)
    every, one = (fit.posterior(x) for x in (rows, rows[7:8]))
    for latent in model.latents:
        a, b = (p[latent] if isinstance(p, dict) else p for p in (every, one))
        torch.testing.assert_close(a.mean[7:8], b.mean, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(a.variance[7:8], b.variance, atol=1e-5, rtol=1e-4)
