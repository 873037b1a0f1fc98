"""Latents whose values are in the data, in some rows: q is a point mass there, and the bound uses the values."""

import cases
import pytest
import torch

import pyro_lfm as lfm

N, C = 12, 3


def labelled(seed=0, **objective):
    """A model of labels, data of which some are known, and a guide."""
    torch.manual_seed(seed)
    model = lfm.Model(
        y=lfm.Categorical(C),
        z=lfm.StandardNormal(2),
        x=lfm.Gaussian(cases.D, mean=lfm.MLP(6), given=("y", "z")),
    )
    guide = lfm.Guide(
        model,
        y=lfm.Categorical(logits=lfm.MLP(6), given="x"),
        z=lfm.Gaussian(network=lfm.MLP(6), given=("x", "y")),
    )
    drawn = model.sample(N, seed=1)
    labels = drawn["y"].float()
    labels[4:] = torch.nan
    return model, guide, {"x": drawn["x"], "y": labels}


def test_a_known_label_gives_the_bound_on_the_joint_distribution_and_an_unknown_one_that_on_x():
    """Against each row's terms by hand: ELBO(x, y) for a known label, Σ_y q(y) [ELBO(x, y) − log q(y)] otherwise."""
    model, guide, data = labelled()
    bound_per_row = lfm.ELBO(particles=4000).bound(model, guide, data).per_row
    factors, x = guide.factors, data["x"]
    q_y = factors["y"](x)
    joint = []
    torch.manual_seed(7)
    for c in range(C):
        y = torch.full((N,), c)
        q_z = factors["z"](x, y)
        z = q_z.rsample((4000,))
        log_x = model.factors["x"](y.expand(4000, N), z).log_prob(x).mean(0)
        kl = torch.distributions.kl_divergence(q_z, model.factors["z"]())
        joint.append(log_x - kl + model.factors["y"]().log_prob(y))
    joint = torch.stack(joint, -1)
    by_hand = (q_y.probs * (joint - q_y.logits)).sum(-1)
    known = ~data["y"].isnan()
    by_hand[known] = joint[known].gather(-1, data["y"][known].long()[:, None])[:, 0]
    # Two estimates of 4000 draws each, of 12 rows: the worst of them within 0.1 nats, some 5 standard errors.
    assert (bound_per_row - by_hand).abs().max() < 0.1
    assert (by_hand[known] - joint[known].logsumexp(-1)).min() < -0.5, "a label is worth something"


OBJECTIVES = ["elbo", "particles", "free-bits", "sticking-the-landing", "importance-weighted", "renyi", "wake-sleep",
              "importance-weighted-drawn", "monte-carlo"]  # fmt: skip


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_makes_use_of_them(objective):
    model, guide, data = labelled()
    svi = lfm.SVI(guide, objective=cases.OBJECTIVES[objective](), epochs=2, batch_size=5)
    fit = lfm.fit(model, data, svi, seed=0, progress=False)
    assert torch.isfinite(torch.tensor([record["bound"] for record in fit.history])).all()
    probs = fit.posterior(data)["y"].probs
    assert torch.equal(probs[:4].argmax(-1), data["y"][:4].long()) and (probs[:4].amax(-1) == 1).all()
    assert (probs[4:].amax(-1) < 1).all()
    alone = fit.posterior({"x": data["x"]})["y"].probs
    assert (alone.amax(-1) < 1).all() and torch.allclose(alone[4:], probs[4:])
    assert fit.reconstruct(data).shape == data["x"].shape
    assert lfm.evaluate.log_likelihood(fit, data, draws=20).per_row.isfinite().all()


@pytest.mark.parametrize("engine", ["eager", "compiled", "pyro"])
def test_engines_agree_with_labels_and_supervision(engine):
    model, guide, data = labelled()
    objective = lfm.Penalised(lfm.ELBO(), lfm.Supervised(weight=3.0))
    fit = lfm.fit(
        model, data, lfm.SVI(guide, objective=objective, epochs=4, engine=engine), seed=0, progress=False
    )
    assert fit.history[-1]["bound"] == pytest.approx(
        REFERENCE.setdefault("bound", fit.history[-1]["bound"]), rel=1e-4
    )


REFERENCE: dict[str, float] = {}


def test_supervision_is_the_cross_entropy_of_the_known_rows():
    model, guide, data = labelled()
    bound = lfm.Penalised(lfm.ELBO(), lfm.Supervised()).bound(model, guide, data)
    logits = guide.factors["y"](data["x"][:4]).logits
    expected = torch.nn.functional.cross_entropy(logits, data["y"][:4].long(), reduction="sum") / N
    assert torch.allclose(bound.penalties["Supervised"], expected)
    gradient = torch.autograd.grad(expected, guide.factors["y"].parameters(), retain_graph=True)
    assert all(value.abs().max() > 0 for value in gradient)


@pytest.mark.parametrize("prior", ["standard-normal", "gamma", "dirichlet", "unit-interval"])
def test_continuous_latents_may_be_known_too(prior):
    """With every z known, the bound is log p(x, z) exactly."""
    model = lfm.Model(z=cases.PRIORS[prior](), x=lfm.Gaussian(cases.D, mean=lfm.MLP(6)))
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    data = {name: value for name, value in model.sample(N, seed=0).items()}
    bound = lfm.ELBO().bound(model, guide, data)
    exact = model.factors["x"](data["z"]).log_prob(data["x"]) + model.factors["z"]().log_prob(data["z"])
    assert torch.allclose(bound.per_row, exact, atol=1e-4)
    data["z"][3:] = torch.nan
    fit = lfm.fit(model, data, lfm.SVI(guide, epochs=2, batch_size=5), seed=0, progress=False)
    assert torch.allclose(fit.posterior(data).mean[:3], data["z"][:3], atol=1e-6)
    objective = lfm.Penalised(lfm.ELBO(), lfm.Supervised())
    assert objective.bound(model, guide, data).objective.isfinite()


def test_latents_can_be_set_when_generating():
    model, _, _ = labelled()
    labels = torch.arange(N) % C
    drawn = model.sample(N, seed=0, given={"y": labels})
    assert torch.equal(drawn["y"].long(), labels)
    same = model.factors["x"](labels, drawn["z"]).mean
    assert (drawn["x"] - same).abs().mean() < 3
    with pytest.raises(lfm.ShapeError, match=r"y must have shape \(N,\); got \(12, 2\)"):
        model.sample(N, given={"y": torch.zeros(N, 2)})


def test_what_cannot_make_use_of_them_says_so():
    model, guide, data = labelled()
    mixture = cases.mixture(lfm.Gaussian(cases.D, mean=lfm.Lookup(), given="c"))
    rows = {"x": data["x"], "c": data["y"]}
    with pytest.raises(lfm.DeclarationError, match="EM cannot use known values of a latent; the data hold c"):
        lfm.fit(mixture, rows, lfm.EM(), progress=False)
    with pytest.raises(lfm.DeclarationError, match=r"must be an lfm\.Guide, which can use known values"):
        lfm.fit(mixture, rows, lfm.SVI(lfm.ExactPosterior(mixture), epochs=1), progress=False)
    with pytest.raises(lfm.DataError, match=r"y must be integers 0\.\.2"):
        lfm.fit(model, {**data, "y": torch.full((N,), 7.0)}, lfm.SVI(guide, epochs=1), progress=False)
    with pytest.raises(lfm.DataError, match="row 1 has some of them"):
        z = torch.zeros(N, 2)
        z[1, 0] = torch.nan
        lfm.fit(model, {**data, "z": z}, lfm.SVI(guide, epochs=1), progress=False)
    with pytest.raises(lfm.DeclarationError, match="Supervised needs known values of a latent"):
        lfm.Penalised(lfm.ELBO(), lfm.Supervised()).bound(model, guide, {"x": data["x"]})
    with pytest.raises(lfm.DeclarationError, match="must be of those that the data hold, y; got 'z'"):
        lfm.Penalised(lfm.ELBO(), lfm.Supervised(latents="z")).bound(model, guide, data)
