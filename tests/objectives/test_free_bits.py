"""Free bits: a KL below them is not pressed, whatever its gradient is made of."""

import pytest
import torch

import pyro_lfm as lfm

ROWS = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))


def poisson():
    model = lfm.Model(z=lfm.Poisson(1, rate=lfm.Fixed(1.5)), x=lfm.Gaussian(3, mean=lfm.Linear(), given="z"))
    return model, {"z": lfm.Poisson(rate=lfm.Linear())}


def label():
    model = lfm.Model(z=lfm.Categorical(3), x=lfm.Gaussian(3, mean=lfm.Lookup(), given="z"))
    return model, {"z": lfm.Categorical(logits=lfm.Linear())}


def gaussian():
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lfm.Linear()))
    return model, {"z": lfm.Gaussian(network=lfm.Linear())}


def mixture():
    model, _ = gaussian()
    return model, {"z": lfm.MixtureOfGaussians(components=2, network=lfm.Linear())}


CASES = {
    "poisson": (poisson, {"kl": "monte-carlo"}),
    "poisson, closed form": (poisson, {}),
    "poisson, one draw": (poisson, {"kl": "monte-carlo", "particles": 1}),
    "label drawn": (label, {"enumerate": "never", "kl": "monte-carlo"}),
    "label summed out": (label, {}),
    "gaussian": (gaussian, {"kl": "monte-carlo"}),
    "gaussian, sticking": (gaussian, {"gradient": "sticking-the-landing"}),
    "gaussian, closed form": (gaussian, {}),
    "mixture": (mixture, {"kl": "monte-carlo"}),
}


def gradients(model, guide, objective, seed=0):
    torch.manual_seed(seed)
    bound = objective.bound(model, guide, lfm.Batch(ROWS))
    slopes = torch.autograd.grad(
        bound.objective, [*model.parameters(), *guide.parameters()], allow_unused=True
    )
    return bound, [torch.zeros(()) if g is None else g for g in slopes]


@pytest.mark.parametrize("weight", [1.0, 0.3, lambda done: 2 * done])
@pytest.mark.parametrize("case", CASES)
def test_below_them_the_gradient_is_that_of_the_reconstruction_alone(case, weight):
    torch.manual_seed(1)
    make, options = CASES[case]
    options = {"particles": 8, **options}
    model, factors = make()
    guide = lfm.Guide(model, **factors)
    free = lfm.ELBO(free_bits=50.0, kl_weight=weight, **options).at(0.4)
    none = lfm.ELBO(kl_weight=0.0, **options)
    bound, held = gradients(model, guide, free)
    _, alone = gradients(model, guide, none)
    assert float(bound.kl["z"].mean()) < 50
    for a, b in zip(held, alone, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    # Above them it is the plain gradient.
    _, plain = gradients(model, guide, lfm.ELBO(kl_weight=weight, **options).at(0.4))
    _, above = gradients(model, guide, lfm.ELBO(kl_weight=weight, free_bits=1e-6, **options).at(0.4))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(plain, above, strict=True))
    assert any((a - b).abs().max() > 1e-3 for a, b in zip(plain, alone, strict=True))


def test_each_latent_has_its_own():
    """One KL above and one below: the gradient is that of the reconstruction less the first alone."""
    torch.manual_seed(0)
    model = lfm.Model(
        n=lfm.Poisson(1, rate=lfm.Fixed(9.0)),
        m=lfm.Poisson(1, rate=lfm.Fixed(1.0)),
        x=lfm.Gaussian(3, mean=lfm.Linear(), given=("n", "m")),
    )
    guide = lfm.Guide(model, n=lfm.Poisson(rate=lfm.Linear()), m=lfm.Poisson(rate=lfm.Linear()))
    objective = lfm.ELBO(16, kl="monte-carlo", free_bits=2.0)
    bound, slopes = gradients(model, guide, objective)
    assert float(bound.kl["n"].mean()) > 2.0 > float(bound.kl["m"].mean())
    torch.manual_seed(0)
    run = objective.run(model, guide, (lfm.Batch(ROWS),), {})
    value = run.reconstruction().mean() - run.kl("n", "monte-carlo").mean()
    exact = torch.autograd.grad(value, [*model.parameters(), *guide.parameters()], allow_unused=True)
    for a, b in zip(slopes, exact, strict=True):
        assert torch.allclose(a, torch.zeros(()) if b is None else b, atol=1e-5)


def test_a_fit_keeps_what_is_free():
    """Nothing reads n of x: without free bits its KL goes to zero, with them nothing presses it."""
    torch.manual_seed(0)

    def fitted(free_bits):
        model = lfm.Model(
            n=lfm.Poisson(1, rate=lfm.Fixed(4.0)),
            x=lfm.Gaussian(3, mean=lfm.Linear(weight=lfm.Fixed(torch.zeros(3, 1))), given="n"),
        )
        guide = lfm.Guide(model, n=lfm.Poisson(rate=lfm.Learned(2.0)))
        objective = lfm.ELBO(16, kl="monte-carlo", free_bits=free_bits)
        return lfm.fit(
            model,
            ROWS,
            lfm.SVI(guide, objective=objective, epochs=150, learning_rate=0.05),
            seed=0,
            progress=False,
        ).history

    start = 2.0 * torch.tensor(0.5).log().item() - 2.0 + 4.0  # KL(Poisson(2) ‖ Poisson(4))
    free, pressed = fitted(5.0), fitted(0.0)
    assert pressed[-1]["kl"]["n"] < 0.05 if isinstance(pressed[-1]["kl"], dict) else pressed[-1]["kl"] < 0.05
    last = free[-1]["kl"]["n"] if isinstance(free[-1]["kl"], dict) else free[-1]["kl"]
    assert last == pytest.approx(start, abs=0.35)
