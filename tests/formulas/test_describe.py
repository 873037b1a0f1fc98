"""describe prints what is declared, and how each KL is computed."""

import cases
import pyro
import pytest

import pyro_lfm as lfm


def describe(model, objective=None, factor="gaussian-full", **given):
    guide = lfm.Guide(
        model,
        **{
            name: lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(3), given=given.get(name))
            for name in model.latents
        },
    )
    return lfm.describe(model, guide, objective)


def test_two_layers_and_the_obstacle_to_a_closed_form():
    text = describe(cases.two_layers(), z1=("x",), z2=("z1",))
    assert "p(z2, z1, x) = p(z2) p(z1 | z2) p(x | z1)" in text
    assert "q(z2, z1 | x) = q(z1 | x) q(z2 | z1)" in text
    assert "KL z2: closed form" in text
    assert "KL z1: Monte Carlo (its prior may read z2, which the guide may draw knowing z1)" in text
    text = describe(cases.two_layers(), z1=("x", "z2"))
    assert "KL z1: closed form" in text and "KL z2: closed form" in text


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (lfm.ELBO(kl="monte-carlo"), "KL z: Monte Carlo"),
        (lfm.ELBO(gradient="sticking-the-landing"), "KL z: Monte Carlo (sticking the landing)"),
        (lfm.ELBO(particles=4), "4 particles, reparametrized gradient"),
        (lfm.ELBO(kl_weight=0.5), "a bound on log p only for weights of at least 1"),
        (lfm.ELBO(kl_weight=4.0), "- 4 KL(q(z | x) || p(z))"),
        (lfm.ELBO(kl_weight=lambda fraction: fraction), "beta(t) KL"),
        (lfm.ELBO(free_bits=0.25), "free bits: 0.25 nats per latent"),
        (pyro.infer.TraceMeanField_ELBO(), "objective: pyro.infer.TraceMeanField_ELBO"),
    ],
)
def test_every_objective_says_what_it_does(objective, words):
    assert words in describe(cases.plain(), objective)


def test_programs_by_hand_and_carried_guides():
    text = describe(cases.GammaDirichlet())
    assert "a Pyro program, GammaDirichlet" in text and "carried onto" in text
    assert "KL r: Monte Carlo (no closed form for this pair)" in text
    text = lfm.describe(cases.plain(), cases.HandGuide())
    assert "a Pyro program, HandGuide" in text and "KL z: closed form" in text
    assert lfm.describe(cases.two_views()).count("\n") == 3


def test_sources_are_named():
    model = lfm.Model(
        z=lfm.Gaussian(2, mean=lfm.Fixed(0.0), covariance=lfm.LowRank(1)),
        x=lfm.Gaussian(3, mean=lfm.Linear(), covariance=lfm.Isotropic(lfm.MLP(4)), given="z"),
    )
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.PerRow()))
    text = lfm.describe(model, guide)
    for words in ("mean: fixed", "LowRank(1) learned", "mean: Linear", "Isotropic MLP(4)", "one per row"):
        assert words in text
    own = lfm.Model(
        z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=cases.Residual, covariance=lfm.Isotropic())
    )
    assert "x | z ~ Gaussian(mean: Residual, covariance: Isotropic learned)" in lfm.describe(own)
