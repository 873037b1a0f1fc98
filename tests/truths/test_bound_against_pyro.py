"""The bound against Pyro's own estimators, and against what it must be by definition."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.objectives import run

REPEATS, ROWS = 200, 50  # 10,000 draws of one row's bound

WIRINGS = {
    "independent": {},
    "top-down": {"z1": ("x", "z2")},
    "bottom-up": {"z1": ("x",), "z2": ("z1",)},
}

OBJECTIVES = {
    "auto": lfm.ELBO(),
    "monte-carlo": lfm.ELBO(kl="monte-carlo"),
    "sticking-the-landing": lfm.ELBO(gradient="sticking-the-landing"),
    "particles": lfm.ELBO(particles=3),
    "sticking-the-landing-particles": lfm.ELBO(gradient="sticking-the-landing", particles=3),
}


def two_layers(wiring):
    """z2 -> z1 -> x with fixed random weights, float64, and one row of data repeated."""
    torch.manual_seed(1)
    model = lfm.Model(
        z2=lfm.StandardNormal(2),
        z1=lfm.Gaussian(3, covariance=lfm.Full(), network=lfm.MLP(5, activation="tanh"), given="z2"),
        x=lfm.Gaussian(4, mean=lfm.MLP(5, activation="tanh"), given="z1"),
    ).double()
    given = WIRINGS[wiring]
    guide = lfm.Guide(
        model,
        z1=lfm.Gaussian(covariance=lfm.Full(), network=lfm.Linear(), given=given.get("z1")),
        z2=lfm.Gaussian(covariance=lfm.LowRank(1), network=lfm.Linear(), given=given.get("z2")),
    )
    row = model.sample(1, seed=3)["x"]
    return model, guide, lfm.Batch(row.expand(ROWS, -1), total=ROWS)


def estimates(objective, model, guide, batch, seed):
    """(REPEATS, 1 + P): the bound per row and its gradient in every parameter, one line per repeat."""
    torch.manual_seed(seed)
    parameters = [*model.parameters(), *guide.parameters()]
    lines = []
    for _ in range(REPEATS):
        loss = objective.differentiable_loss(model, guide, batch) / batch.total
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        flat = [
            torch.zeros_like(p).flatten() if g is None else g.flatten()
            for p, g in zip(parameters, gradients, strict=True)
        ]
        lines.append(torch.cat([loss.detach().reshape(1), *flat]))
    return torch.stack(lines)


def agree(ours, theirs, limit):
    error = (ours.var(0) / len(ours) + theirs.var(0) / len(theirs)).sqrt()
    return ((ours.mean(0) - theirs.mean(0)).abs() <= limit * error + 1e-9).all()


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_value_and_gradient_agree_with_pyro_in_expectation(objective, wiring):
    """Within 4 standard errors over 10,000 draws. About 130 numbers are compared: false alarm below 1%."""
    model, guide, batch = two_layers(wiring)
    theirs = estimates(pyro.infer.Trace_ELBO(), model, guide, batch, seed=0)
    ours = estimates(OBJECTIVES[objective], model, guide, batch, seed=1)
    assert agree(ours, theirs, 4)


def test_a_closed_form_per_site_would_be_wrong_for_the_bottom_up_guide(monkeypatch):
    """What kl="auto" avoids matters: with every KL integrated for itself the same comparison fails."""
    model, guide, batch = two_layers("bottom-up")
    right = estimates(pyro.infer.Trace_ELBO(), model, guide, batch, seed=0)
    monkeypatch.setattr(run, "obstacle", lambda *_: None)
    wrong = estimates(lfm.ELBO(), model, guide, batch, seed=1)
    assert not agree(wrong, right, 8)


def test_analytic_kl_names_the_latent_whose_closed_form_is_not_valid():
    model, guide, batch = two_layers("bottom-up")
    with pytest.raises(lfm.DeclarationError, match="q\\(z1\\).*may read z2.*knowing z1"):
        lfm.ELBO(kl="analytic").bound(model, guide, batch)
    model, guide, batch = two_layers("top-down")
    assert lfm.ELBO(kl="analytic").bound(model, guide, batch).per_row.isfinite().all()


def test_kl_of_a_full_guide_against_the_standard_normal_has_no_variance():
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(3), x=lfm.Gaussian(4, mean=lfm.MLP(5)))
    guide = lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(5)))
    batch = lfm.Batch(model.sample(6, seed=0)["x"])
    kls = []
    for seed in range(5):
        torch.manual_seed(seed)
        kls.append(lfm.ELBO().bound(model, guide, batch).kl["z"])
    assert all(torch.equal(kl, kls[0]) for kl in kls)


def test_weight_and_free_bits_change_the_objective_and_not_the_reported_bound():
    model, guide, batch = two_layers("independent")

    def bound(**options):
        torch.manual_seed(0)
        return lfm.ELBO(**options).bound(model, guide, batch)

    plain = bound()
    kls = {name: kl.mean() for name, kl in plain.kl.items()}
    for weight in (0.0, 0.5, 4.0):
        weighted = bound(kl_weight=weight)
        assert torch.equal(weighted.per_row, plain.per_row)
        expected = plain.reconstruction.mean() - weight * sum(kls.values())
        assert weighted.objective.item() == pytest.approx(expected.item())
    floor = max(kl.item() for kl in kls.values()) + 1
    floored = bound(free_bits=floor)
    assert floored.objective.item() == pytest.approx(plain.reconstruction.mean().item() - floor * len(kls))
    assert torch.equal(floored.per_row, plain.per_row)


def test_a_schedule_is_taken_at_its_moment_and_refused_without_one():
    model, guide, batch = two_layers("independent")
    objective = lfm.ELBO(kl_weight=lambda fraction: fraction**2)
    assert objective.at(0.5).kl_weight == 0.25
    with pytest.raises(lfm.DeclarationError, match="schedule"):
        objective.bound(model, guide, batch)


def test_sticking_the_landing_has_no_variance_at_the_exact_posterior():
    """q = p(z | x) = N(x / 2, 1 / 2) for z ~ N(0, 1), x | z ~ N(z, 1)."""
    model = lfm.Model(
        z=lfm.StandardNormal(1),
        x=lfm.Gaussian(
            1,
            mean=lfm.Linear(weight=lfm.Fixed(1.0), bias=lfm.Fixed(0.0)),
            covariance=lfm.Isotropic(lfm.Fixed(1.0)),
        ),
    ).double()
    guide = lfm.Guide(
        model,
        z=lfm.Gaussian(
            mean=lfm.Linear(weight=lfm.Learned(0.5), bias=lfm.Learned(0.0)),
            covariance=lfm.Diagonal(lfm.Learned(0.5)),
        ),
    )
    batch = lfm.Batch(torch.tensor([[0.3], [-1.2]], dtype=torch.float64))
    exact = torch.distributions.Normal(0.0, 2**0.5).log_prob(batch["x"]).sum(-1)
    for seed in range(5):
        torch.manual_seed(seed)
        bound = lfm.ELBO(gradient="sticking-the-landing").bound(model, guide, batch)
        assert torch.allclose(bound.per_row, exact, atol=1e-6)
        gradients = torch.autograd.grad(bound.objective, list(guide.parameters()))
        assert all(gradient.abs().max() < 1e-6 for gradient in gradients)


def test_minibatches_and_shared_latents_are_weighted_by_rows():
    """Under plain Pyro the loss is a total over N rows; a latent shared by all rows counts once."""

    class Shared(lfm.PyroModel):
        def forward(self, batch):
            mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
            with batch.plate():
                pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                centre = mean[..., None] if mean.dim() else mean
                pyro.sample("x", dist.Normal(centre.expand(batch.size), 1.0), obs=batch["x"])

    model = Shared()
    torch.manual_seed(0)
    guide = lfm.Guide(model, mean=lfm.Gaussian(), z=lfm.Gaussian(mean=lfm.Learned(1.0)))
    data = torch.tensor([0.1, -0.4, 0.2])
    for total in (3, 30):
        batch = lfm.Batch({"x": data}, total=total)
        torch.manual_seed(7)
        bound = lfm.ELBO(kl="monte-carlo").bound(model, guide, batch)
        torch.manual_seed(7)
        loss = pyro.infer.Trace_ELBO().differentiable_loss(model, guide, batch)
        assert bound.objective.item() * total == pytest.approx(-loss.item(), rel=1e-5)
        assert bound.per_row.mean().item() == pytest.approx(bound.objective.item(), rel=1e-5)
    assert lfm.ELBO().bound(model, guide, lfm.Batch({"x": data}, total=30)).kl["mean"].shape == (3,)


def test_a_discrete_latent_gets_the_score_function_gradient():
    """c ∈ {0, 1}, x | c ~ N(±1, 1): the gradient agrees with the enumerated bound within 4 standard errors."""
    torch.manual_seed(0)
    model = lfm.Model(
        c=lfm.Categorical(2),
        x=lfm.Gaussian(
            1,
            mean=lfm.Linear(weight=lfm.Fixed(torch.tensor([[-1.0, 1.0]])), bias=lfm.Fixed(0.0)),
            covariance=lfm.Isotropic(lfm.Fixed(1.0)),
        ),
    ).double()
    guide = lfm.Guide(model, c=lfm.Categorical(logits=lfm.Learned([0.3, -0.2]))).double()
    row = torch.tensor([[0.7]], dtype=torch.float64)
    drawn = lfm.ELBO(enumerate="never")
    ours = estimates(drawn, model, guide, lfm.Batch(row.expand(ROWS, -1)), seed=0)
    logits = next(guide.parameters())
    q = logits.softmax(-1)
    joint = torch.stack([model.factors["x"](torch.tensor([c])).log_prob(row)[0] for c in (0, 1)])
    prior = model.factors["c"]().probs.log()
    exact = (q * (joint + prior - q.log())).sum()
    (gradient,) = torch.autograd.grad(exact, [logits])
    names = [n for n, _ in (*model.named_parameters(), *guide.named_parameters())]
    error = ours.std(0) / REPEATS**0.5
    assert abs(ours[:, 0].mean() + exact) < 4 * error[0]
    assert names[-1].endswith("logits.value")
    assert ((ours[:, -2:].mean(0) + gradient).abs() < 4 * error[-2:]).all()
