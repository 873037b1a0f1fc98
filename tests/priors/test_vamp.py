"""The VampPrior is the average of the guide's distribution over its pseudo-inputs, in training, copies and saved fits."""

import copy

import cases
import pyro
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.distributions.pairwise_density import pairwise_log_prob

ROWS = (torch.rand(30, cases.D, generator=torch.Generator().manual_seed(1)) < 0.4).float()


def pair(**options):
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.VampPrior(cases.K, **options), x=lfm.Bernoulli(cases.D, logits=lfm.MLP(6)))
    return model, lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(6)))


def prior(model, guide):
    """p(z), made of a guide."""
    return model.bound_to(guide).factors["z"]()


def average(guide, rows, z):
    """log 1/C Σ_c q(z | u_c), one distribution at a time."""
    each = torch.stack([guide.factors["z"](row.clamp(0, 1)).log_prob(z) for row in rows])
    return each.double().exp().mean(0).log()


def test_it_is_the_average_of_the_guide_over_the_pseudo_inputs():
    model, guide = pair(pseudo_inputs=ROWS[:5])
    z = torch.randn(7, 2, cases.K)
    assert torch.allclose(prior(model, guide).log_prob(z).double(), average(guide, ROWS[:5], z), atol=1e-5)


@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_narrow_components_lose_no_digits(kind):
    """Standard deviations of 0.002 around means of up to 3: in single precision a difference of squares would be lost."""
    torch.manual_seed(1)
    loc, z = 3 * torch.randn(6, cases.K), 3 * torch.randn(5, 1, cases.K)
    z[0] = loc[2] + 0.001
    root = 0.002 * torch.eye(cases.K).expand(6, -1, -1)
    distribution = torch.distributions.MultivariateNormal(loc, scale_tril=root)
    if kind == "diagonal":
        distribution = torch.distributions.Independent(torch.distributions.Normal(loc, 0.002), 1)
    log_prob_of_pairs = pairwise_log_prob(distribution, z)
    assert log_prob_of_pairs.shape == (5, 1, 6) and log_prob_of_pairs.dtype == torch.float32
    assert torch.allclose(log_prob_of_pairs, distribution.log_prob(z.unsqueeze(-2)), rtol=1e-5)


def test_it_is_the_prior_that_gains_most_when_its_rows_are_the_data():
    """ELBO(prior = aggregate) − ELBO(N(0, I)) is KL(aggregate ‖ N(0, I)) > 0: on the same draws, 30 rows × 2000 draws.

    The difference is held against an estimate of that KL from draws of its own, within 5 standard errors.
    """
    model, guide = pair(pseudo_inputs=ROWS)
    plain = lfm.Model(z=lfm.StandardNormal(cases.K), x=model.declared["x"])
    plain.factors["x"].load_state_dict(model.factors["x"].state_dict())
    with torch.no_grad():  # away from N(0, I)
        for parameter in guide.parameters():
            parameter.mul_(3.0)
    torch.manual_seed(2)
    elbo = lfm.ELBO(particles=2000, kl="monte-carlo")
    gains = []
    with torch.no_grad():
        for one in (model, plain):
            torch.manual_seed(3)
            gains.append(elbo.bound(one, guide, ROWS).per_row.mean())
        aggregate = prior(model, guide)
        z = aggregate.sample((60_000,))
        ratios = aggregate.log_prob(z) - plain.factors["z"]().log_prob(z)
    error = ratios.std() / len(z) ** 0.5
    assert ratios.mean() > 0.1
    assert (gains[0] - gains[1] - ratios.mean()).abs() < 5 * 1.5 * error


def test_its_gradients_reach_the_encoder_through_both_terms():
    model, guide = pair(pseudo_inputs=ROWS[:4])
    z = torch.randn(6, cases.K)
    wanted = [*guide.parameters(), model.factors["z"].pseudo_inputs["x"]]
    gradients = torch.autograd.grad(prior(model, guide).log_prob(z).sum(), wanted)
    rows = model.factors["z"].pseudo_inputs["x"]
    expected = torch.autograd.grad(average(guide, rows, z).sum(), wanted)
    for one, other in zip(gradients, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-4)
        assert one.abs().max() > 1e-6


def test_the_encoder_stays_the_guides_and_the_rows_the_models():
    model, guide = pair(components=4)
    assert not {id(p) for p in model.parameters()} & {id(p) for p in guide.parameters()}
    assert [n for n, _ in model.named_parameters() if "pseudo" in n] == ["factors.z.pseudo_inputs.x"]
    twin = copy.deepcopy(model.bound_to(guide))
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(0.5)
    z = torch.zeros(cases.K)
    assert not torch.allclose(twin.factors["z"]().log_prob(z), prior(model, guide).log_prob(z))
    assert torch.equal(prior(twin, guide).log_prob(z), prior(model, guide).log_prob(z))


@pytest.mark.parametrize("engine", ["eager", "compiled", "pyro"])
def test_every_engine_trains_it_with_the_guide_that_it_is_given(engine):
    model, guide = pair(components=4)
    other = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(6)))  # the last to have been declared
    before = copy.deepcopy(guide.state_dict()), model.factors["z"].pseudo_inputs["x"].detach().clone()
    lfm.fit(model, ROWS, lfm.SVI(guide, epochs=3, batch_size=10, engine=engine), seed=0, progress=False)
    assert torch.allclose(
        model.factors["z"]().log_prob(torch.zeros(2, cases.K)).double(),
        average(guide, model.factors["z"].pseudo_inputs["x"], torch.zeros(2, cases.K)),
        atol=1e-5,
    )
    assert not torch.equal(before[1], model.factors["z"].pseudo_inputs["x"])
    assert any(not torch.equal(value, before[0][name]) for name, value in guide.state_dict().items())
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in other.state_dict().items())
    if engine == "pyro":
        pyro.clear_param_store()


def test_several_views_and_labels():
    model = lfm.Model(
        z=lfm.VampPrior(2, components=4),
        x=lfm.Gaussian(3, mean=lfm.MLP(6)),
        y=lfm.Categorical(3, logits=lfm.MLP(6)),
    )
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(6)))
    rows = model.factors["z"].pseudo_inputs
    assert rows["x"].shape == (4, 3) and rows["x"].requires_grad
    assert rows["y"].shape == (4,) and not rows["y"].requires_grad
    drawn = model.bound_to(guide).sample(20, seed=0)
    data = {name: drawn[name] for name in ("x", "y")}
    fit = lfm.fit(model, data, lfm.SVI(guide, epochs=2), seed=0, progress=False)
    assert torch.isfinite(torch.tensor(fit.history[-1]["bound"]))


def test_what_cannot_be_its_guide_is_refused():
    model, _ = pair(components=4)
    with pytest.raises(lfm.DeclarationError, match=r"declare the guide with lfm\.Guide"):
        lfm.fit(model, ROWS, lfm.SVI(cases.HandGuide(), epochs=1), seed=0, progress=False)
    with pytest.raises(
        lfm.DeclarationError, match="computes the distribution of its latent from observed rows"
    ):
        lfm.Guide(model, z=lfm.Gaussian())
    for options, words in (
        ({"pseudo_inputs": ROWS[:5, :3]}, r"must be \(5, 4\); got \(5, 3\)"),
        ({"pseudo_inputs": ROWS[:5], "components": 6}, "must have 6 rows"),
        ({"pseudo_inputs": {"y": ROWS[:5]}}, "must have rows of x"),
    ):
        with pytest.raises((lfm.ShapeError, lfm.DeclarationError), match=words):
            pair(**options)
