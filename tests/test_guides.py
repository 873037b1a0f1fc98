"""Guides that are more than one factor per latent: wired among the latents, products, refined, joint laws of Pyro's own."""

import cases
import pytest
import torch
from test_compiled import agree, replay  # noqa: F401

import pyro_lfm as lfm


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


# Wired among the latents -----------------------------------------------------------------------------------


def bottom_up(model):
    """q(z1 | x) q(z2 | z1)."""
    z1 = lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(6), given="x")
    return lfm.Guide(model, z1=z1, z2=lfm.Gaussian(network=lfm.MLP(6), given="z1"))


def ladder(model):
    """q(z2 | x) q(z1 | x, z2), from the top down."""
    z1 = lfm.Gaussian(network=lfm.MLP(6), given=("x", "z2"))
    return lfm.Guide(model, z1=z1, z2=lfm.Gaussian(network=lfm.MLP(6), given="x"))


STRUCTURES = {"bottom-up": bottom_up, "ladder": ladder}


@pytest.mark.parametrize("objective", cases.OBJECTIVES)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_guides_wired_among_the_latents_serve_every_objective(structure, objective):
    model = cases.two_layers()
    guide = STRUCTURES[structure](model)
    svi = lfm.SVI(guide, objective=cases.OBJECTIVES[objective](), steps=3, batch_size=6)
    before = [p.detach().clone() for p in guide.parameters()]
    fit = lfm.fit(model, cases.rows_of(model), svi, seed=0, progress=False)
    assert torch.tensor([record["bound"] for record in fit.history]).isfinite().all()
    assert all(not torch.equal(a, b) for a, b in zip(before, guide.parameters(), strict=True))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_guides_wired_among_the_latents_are_recorded_and_keep_the_contract(structure, replay):  # noqa: F811
    def make():
        model = cases.two_layers()
        return model, STRUCTURES[structure](model)

    _, fit = agree(make, cases.rows_of)
    laws = fit.posterior()
    for name, latent in fit.model.latents.items():
        assert laws[name].batch_shape == (cases.N,) and laws[name].event_shape == latent.shape
        assert laws[name].log_prob(laws[name].sample()).isfinite().all()
    lfm.testing.check_guide(fit.guide, fit.model)
    # A KL is closed form only where nothing that the prior reads was drawn knowing the latent.
    words = lfm.describe(fit.model, fit.guide)
    if structure == "bottom-up":
        assert "q(z1 | x) q(z2 | z1)" in words and "KL z2: closed form" in words
        assert "KL z1: Monte Carlo (its prior may read z2, which the guide may draw knowing z1)" in words
    else:
        assert "q(z2 | x) q(z1 | x, z2)" in words
        assert "KL z1: closed form" in words and "KL z2: closed form" in words


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_posterior_of_a_latent_that_reads_another_has_the_moments_of_joint_draws(structure):
    """4,000 draws against a mixture of 256: five standard errors of both, 24 or 36 numbers, false alarm below 1e-4."""
    model = cases.two_layers()
    guide = STRUCTURES[structure](model)
    fit = lfm.fit(model, cases.rows_of(model), lfm.SVI(guide, steps=5), seed=0, progress=False)
    draws = fit.sample_posterior(draws=1000)
    name = "z2" if structure == "bottom-up" else "z1"
    law, seen = fit.posterior()[name], draws[name]
    error = seen.std(0) * (1 / 1000 + 1 / 256) ** 0.5
    assert ((law.mean - seen.mean(0)).abs() < 5 * error).all()


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_bound_with_closed_forms_and_one_from_draws_alone_agree(structure):
    """20,000 draws of each row: within five of their standard errors, 12 rows, false alarm below 1e-5."""
    model = cases.two_layers()
    guide, batch = STRUCTURES[structure](model), lfm.Batch(cases.rows_of(model))
    found = []
    for kl in ("auto", "monte-carlo"):
        with torch.no_grad():
            bounds = [lfm.ELBO(particles=500, kl=kl).bound(model, guide, batch).per_row for _ in range(40)]
        found.append(torch.stack(bounds))
    error = sum(bounds.var(0) / 40 for bounds in found).sqrt()
    assert ((found[0].mean(0) - found[1].mean(0)).abs() < 5 * error).all()
