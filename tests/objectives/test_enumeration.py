"""Discrete latents are summed out exactly: values and gradients equal the bound summed by hand."""

import pyro
import pytest
import torch
from pyro.infer import config_enumerate

import pyro_lfm as lfm
from pyro_lfm.distributions.kl import kl_closed_form

C, D, K, B, TOTAL = 3, 4, 2, 5, 20


def mixture():
    model = lfm.Model(
        c=lfm.Categorical(C),
        x=lfm.Gaussian(D, mean=lfm.Lookup(), covariance=lfm.Diagonal(lfm.Lookup()), given="c"),
    )
    return model.double(), {"c": lfm.Categorical(logits=lfm.MLP(6))}


def vade(z_reads=None):
    """A mixture in the latent space (Jiang et al., 2017)."""
    model = lfm.Model(
        c=lfm.Categorical(C),
        z=lfm.Gaussian(K, mean=lfm.Lookup(), covariance=lfm.Full(lfm.Lookup()), given="c"),
        x=lfm.Gaussian(D, mean=lfm.MLP(6), given="z"),
    )
    return model.double(), {
        "c": lfm.Categorical(logits=lfm.MLP(6)),
        "z": lfm.Gaussian(network=lfm.MLP(6), given=z_reads),
    }


def of_both():
    model = lfm.Model(
        c=lfm.Categorical(C, logits=lfm.Learned(torch.tensor([0.5, -0.5, 0.1]))),
        z=lfm.StandardNormal(K),
        x=lfm.Gaussian(D, mean=lfm.MLP(6), given=("c", "z")),
    )
    return model.double(), {
        "c": lfm.Categorical(logits=lfm.MLP(6)),
        "z": lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(6), given=("x", "c")),
    }


CASES = {
    "mixture": mixture,
    "vade": vade,
    "vade, z reads c": lambda: vade(("x", "c")),
    "x reads c and z": of_both,
}


def build(case, missing=False):
    torch.manual_seed(0)
    model, factors = CASES[case]()
    guide = lfm.Guide(model, **factors)
    x = torch.randn(B, D, dtype=torch.float64)
    if missing:
        x[0, 1] = x[2, :2] = float("nan")
    return model, guide, lfm.Batch({"x": x}, total=TOTAL)


def by_hand(model, guide, batch, particles):
    """Σ_c q(c | x) [log p(x | z_c, c) + log p(c) − log q(c | x) − KL(q(z | x, c) ‖ p(z | c))], row by row."""
    x, mask = batch["x"], batch.mask("x")
    q_c = guide.factors["c"](x)
    total = 0.0
    draws = None
    for value in range(C):
        c = torch.full((batch.size,), value)
        values = {"c": c, "x": x}
        inner = 0.0
        if "z" in model.latents:
            q_z = guide.factors["z"](*[values[name] for name in guide.given["z"]])
            p_z = model.factors["z"](*[values[name] for name in model.given["z"]])
            inner = inner - kl_closed_form(q_z, p_z)
            if "c" in guide.given["z"]:
                shape = torch.Size((C, particles))
                draws = torch.randn(*shape, batch.size, K, dtype=torch.float64) if draws is None else draws
                noise = draws[value]
            else:
                shape = torch.Size((particles,))
                draws = torch.randn(*shape, batch.size, K, dtype=torch.float64) if draws is None else draws
                noise = draws
            root = torch.distributions.MultivariateNormal(
                q_z.mean, getattr(q_z, "covariance_matrix", torch.diag_embed(q_z.variance))
            ).scale_tril
            values["z"] = q_z.mean + (root @ noise.unsqueeze(-1)).squeeze(-1)
        parents = [
            values[n].expand(particles, *values[n].shape[-2 if n == "z" else -1 :]) for n in model.given["x"]
        ]
        distribution = model.factors["x"](*parents).base_dist
        log_x = distribution.log_prob(x)
        log_x = (log_x if mask is None else log_x * mask).sum(-1).mean(0)
        log_q, log_p = q_c.log_prob(c), model.factors["c"]().log_prob(c)
        total = total + log_q.exp() * (log_x + log_p - log_q + inner)
    return total


def gradients(value, *modules):
    parameters = [p for module in modules for p in module.parameters()]
    return torch.autograd.grad(value, parameters, allow_unused=True)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("particles", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_summed_by_hand(case, particles, missing):
    model, guide, batch = build(case, missing)
    objective = lfm.ELBO(particles=particles)
    objective.bound(model, guide, batch)  # looks at the programs once, without a trace in the random state
    torch.manual_seed(1)
    bound = objective.bound(model, guide, batch)
    torch.manual_seed(1)
    expected = by_hand(model, guide, batch, particles)
    assert torch.allclose(bound.per_row, expected, atol=1e-10, rtol=0)
    ours = gradients(bound.objective, model, guide)
    for one, other in zip(ours, gradients(expected.mean(), model, guide), strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.allclose(one, other, atol=1e-10, rtol=0)


def test_a_mixture_with_its_exact_posterior_has_the_likelihood_for_its_bound():
    model, guide, batch = build("mixture")
    x = batch["x"]
    joint = model.factors["c"]().logits + model.factors["x"](torch.arange(C)).log_prob(x.unsqueeze(1))

    class Exact(lfm.PyroGuide):
        def forward(self, batch):
            with batch.plate():
                distribution = pyro.distributions.Categorical(logits=joint.detach())
                pyro.sample("c", distribution, infer={"enumerate": "parallel"})

    bound = lfm.ELBO().bound(model, Exact(), batch).per_row
    assert torch.allclose(bound, joint.logsumexp(-1), atol=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_scores_and_pyros_enumeration_agree_in_expectation(case):
    model, guide, batch = build(case)
    exact = lfm.ELBO(particles=400)
    drawn = lfm.ELBO(particles=20_000, enumerate="never")
    ours, theirs = exact.bound(model, guide, batch), drawn.bound(model, guide, batch)
    assert torch.allclose(ours.per_row, theirs.per_row, atol=0.25)
    # The logits of the guide have a gradient by the score function: noisy, but the same.
    last = [p for p in guide.factors["c"].parameters()][-1:]
    one, other = torch.autograd.grad(ours.objective, last)[0], torch.autograd.grad(theirs.objective, last)[0]
    assert torch.allclose(one, other, atol=0.1)
    pyros = pyro.infer.TraceEnum_ELBO(num_particles=400, vectorize_particles=True, max_plate_nesting=1)
    value = -pyros.loss(model, config_enumerate(guide, "parallel"), batch) / TOTAL
    assert value == pytest.approx(float(ours.per_row.mean()), abs=0.1)


def test_guides_that_draw_the_label_last_and_several_labels():
    torch.manual_seed(0)
    model = lfm.Model(
        c=lfm.Categorical(C),
        b=lfm.Bernoulli(2, logits=lfm.Learned(0.3)),
        z=lfm.Gaussian(K, mean=lfm.Linear(), given=("c", "b")),
        x=lfm.Gaussian(D, mean=lfm.Linear(), given="z"),
    ).double()
    guide = lfm.Guide(
        model,
        z=lfm.Gaussian(network=lfm.MLP(4)),
        c=lfm.Categorical(logits=lfm.MLP(4), given="z"),
        b=lfm.Bernoulli(logits=lfm.MLP(4), given=("c", "z")),
    )
    batch = lfm.Batch({"x": torch.randn(B, D, dtype=torch.float64)}, total=TOTAL)
    exact = lfm.ELBO(particles=2000).bound(model, guide, batch)
    drawn = lfm.ELBO(particles=20_000, enumerate="never", kl="monte-carlo").bound(model, guide, batch)
    assert torch.allclose(exact.per_row, drawn.per_row, atol=0.25)
    held = lfm.ELBO(particles=2000, gradient="sticking-the-landing").bound(model, guide, batch)
    assert torch.allclose(exact.per_row, held.per_row, atol=0.25)
    parameters = [*model.parameters(), *guide.parameters()]
    for one, other in zip(
        torch.autograd.grad(exact.objective, parameters),
        torch.autograd.grad(held.objective, parameters),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=0.1)


def test_a_count_that_is_drawn_knowing_the_label_keeps_its_score():
    """c is summed out, n is drawn: E_q(c)q(n|c) by the score function of n under each value of c."""
    torch.manual_seed(0)
    model = lfm.Model(
        c=lfm.Categorical(2),
        n=lfm.Poisson(1, rate=lfm.Lookup(lfm.Learned([[1.0], [3.0]])), given="c"),
        x=lfm.Gaussian(1, mean=lfm.Linear(), given="n"),
    ).double()
    guide = lfm.Guide(
        model,
        c=lfm.Categorical(logits=lfm.Linear()),
        n=lfm.Poisson(rate=lfm.Lookup(lfm.Learned([[2.0], [4.0]])), given="c"),
    )
    batch = lfm.Batch({"x": torch.randn(B, 1, dtype=torch.float64)})
    last = list(guide.parameters())
    estimates = [
        torch.autograd.grad(
            lfm.ELBO(particles=40_000, enumerate=how).bound(model, guide, batch).objective, last
        )
        for how in ("auto", "never")
    ]
    for one, other in zip(*estimates, strict=True):
        assert torch.allclose(one, other, atol=0.15), (one, other)


def test_a_label_outside_the_plate_is_summed_out_too():
    class Shared(lfm.PyroModel):
        def forward(self, batch):
            distribution = pyro.distributions.Categorical(torch.tensor([0.3, 0.7], dtype=torch.float64))
            c = pyro.sample("c", distribution, infer={"enumerate": "parallel"})
            with batch.plate():
                distribution = pyro.distributions.Normal(c.double(), 1.0)
                pyro.sample("x", distribution, obs=batch["x"])

    model = Shared()
    guide = lfm.Guide(model, c=lfm.Categorical(logits=lfm.Learned([0.1, 0.4]))).double()
    x = torch.randn(B, dtype=torch.float64)
    bound = lfm.ELBO().bound(model, guide, lfm.Batch({"x": x}, total=TOTAL))
    q = guide.factors["c"]().probs
    log_x = torch.stack([-0.5 * (x - c) ** 2 - 0.5 * torch.log(torch.tensor(2 * torch.pi)) for c in (0, 1)])
    kl = (q * (q / torch.tensor([0.3, 0.7], dtype=torch.float64)).log()).sum()
    assert torch.allclose(bound.per_row, q @ log_x - kl / TOTAL, atol=1e-6)


def test_options_and_words():
    model, guide, _ = build("vade, z reads c")
    text = lfm.describe(model, guide)
    assert "c: summed out exactly, 3 values" in text and "KL c: summed out exactly" in text
    assert "KL z: closed form" in text
    assert "summed out" not in lfm.describe(model, guide, lfm.ELBO(enumerate="never"))
    with pytest.raises(lfm.DeclarationError, match='enumerate must be "auto" or "never"; got True'):
        lfm.ELBO(enumerate=True)


@pytest.mark.parametrize("engine", ["eager", "pyro"])
def test_svi_recovers_labels(engine):
    torch.manual_seed(0)
    true = torch.randint(2, (200,))
    x = torch.randn(200, 2) * 0.3 + torch.tensor([[-2.0, 0.0], [2.0, 1.0]])[true]
    model = lfm.Model(
        c=lfm.Categorical(2), x=lfm.Gaussian(2, mean=lfm.Lookup(), covariance=lfm.Isotropic(), given="c")
    )
    guide = lfm.Guide(model, c=lfm.Categorical(logits=lfm.Linear()))
    svi = lfm.SVI(guide, epochs=60, batch_size=50, learning_rate=0.05, engine=engine)
    fit = lfm.fit(model, x, svi, seed=0, progress=False)
    label = fit.posterior().probs.argmax(-1)
    assert max((label == true).float().mean(), (label != true).float().mean()) > 0.99
