"""Guides richer than a Gaussian, against posteriors and gradients that are known."""

import math

import cases
import pyro
import pyro.distributions as dist
import pytest
import torch
from linear_cases import cosine, linear_gaussian
from torch import nn
from torch.func import functional_call

import pyro_lfm as lfm
from pyro_lfm.distributions.draw_mixture import DrawMixture


def trained(model, factor, data, seed=0, **options):
    torch.manual_seed(seed)
    guide = lfm.Guide(model, z=factor)
    svi = lfm.SVI(guide, batch_size=len(data), schedule=cosine, engine="eager", **options)
    return lfm.fit(model, data, svi, seed=seed, progress=False)


# Correlated factors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["one-layer", "one-spline"])
def test_a_flow_closes_the_gap_of_mean_field_between_correlated_factors(name):
    """The best mean-field guide loses ½[Σ ln Mⱼⱼ − ln|M|] nats per row. The flow loses at most a tenth of that.

    The gap is an average over 100 rows × 50 draws, taken with a margin of three standard errors on both sides.
    """
    model, data, exact, *_, precision = linear_gaussian(seed=3, rows=100)
    mean_field = 0.5 * float(precision.diagonal().log().sum() - torch.logdet(precision))
    assert mean_field > 0.5
    known = lfm.ELBO(kl="monte-carlo").bound(model, lfm.ExactPosterior(model), lfm.Batch(data)).per_row
    torch.testing.assert_close(known, exact)
    factor = lfm.Flow(flow=cases.FLOWS[name](), loc=lfm.Linear())
    objective = lfm.ELBO(gradient="sticking-the-landing")
    fit = trained(model, factor, data, objective=objective, steps=300, learning_rate=0.05)
    torch.manual_seed(0)
    bounds = lfm.ELBO(particles=50, kl="monte-carlo").bound(fit.model, fit.guide, lfm.Batch(data)).per_row
    gaps = (exact - bounds).detach()
    error = gaps.std() / len(gaps) ** 0.5
    assert gaps.mean() > -3 * error and gaps.mean() + 3 * error < 0.1 * mean_field


# Two modes -----------------------------------------------------------------------------------------------

GRID = torch.linspace(-6, 6, 6001, dtype=torch.float64)[:, None, None]
STEP = 12 / 6000


class Square(nn.Module):
    """z ↦ z²: a row carries no information on the sign of its latent."""

    def __init__(self, in_size, out_size):
        super().__init__()

    def forward(self, z):
        return z.square()


def squared():
    """z ~ N(0, 1), x | z ~ N(z², 0.16), and rows far from zero, whose posteriors have two separate modes."""
    x = lfm.Gaussian(1, mean=Square, covariance=lfm.Isotropic(lfm.Fixed(0.16)))
    return lfm.Model(z=lfm.StandardNormal(1), x=x).double(), torch.linspace(1.5, 4.0, 20).double()[:, None]


def by_integration(model, distribution, data):
    """log p(x) and the bound of each row, and the mass of q at z > 0, by the trapezoidal rule."""
    joint = model.factors["z"]().log_prob(GRID) + model.factors["x"](GRID).log_prob(data)
    log_q = distribution.log_prob(GRID.expand(-1, len(data), -1))
    q = log_q.exp()
    inner = torch.where(q > 0, q * (joint - log_q), 0.0)
    mass = (q * (GRID[..., 0] > 0)).sum(0) * STEP
    return (joint.exp().sum(0) * STEP).log(), inner.sum(0) * STEP, mass


@pytest.fixture(scope="module")
def two_modes():
    """Per family the gap of each row and its mass of q at z > 0. Only the training is stochastic."""
    model, data = squared()
    network = lfm.MLP(16, activation="tanh")
    by_family = {}
    for factor in (lfm.Gaussian(network=network), lfm.MixtureOfGaussians(components=2, network=network)):
        # The KL weight falls from 10: q stays as wide as the prior until it covers both modes.
        objective = lfm.ELBO(particles=4, kl_weight=lambda done: max(1.0, 10 ** (1 - 2 * done)))
        fit = trained(model, factor, data, objective=objective, steps=400, learning_rate=0.02)
        with torch.no_grad():
            exact, bound, mass = by_integration(model, fit.posterior(data), data)
        by_family[type(factor)] = exact - bound, mass
    return by_family


def test_a_mixture_has_both_modes_and_gains_what_a_gaussian_loses(two_modes):
    """A guide with one of two equal modes loses ln 2 nats."""
    gaussian_gap, gaussian_mass = two_modes[lfm.Gaussian]
    mixture_gap, mixture_mass = two_modes[lfm.MixtureOfGaussians]
    assert mixture_gap.min() > 0 and mixture_gap.mean() < 0.03
    assert float((gaussian_gap - mixture_gap).mean()) == pytest.approx(math.log(2), abs=0.05)
    assert mixture_mass.min() > 0.35 and mixture_mass.max() < 0.65
    assert gaussian_mass.min() > 0.99 or gaussian_mass.max() < 0.01


# Gradients of a mixture ----------------------------------------------------------------------------------


class TanhSquare(nn.Module):
    """z ↦ tanh z²: log p(x | z) has no heavy tails, so that standard errors of averages can be relied on."""

    def __init__(self, in_size, out_size):
        super().__init__()

    def forward(self, z):
        return z.square().tanh()


class Positive(lfm.Prior):
    def forward(self):
        return dist.Gamma(torch.full((1,), 2.0, dtype=torch.float64), 1.0).to_event(1)


PRIORS = {"real": lambda: lfm.StandardNormal(1), "positive": lambda: Positive(1)}
OBJECTIVES = {
    "elbo": lfm.ELBO(),
    "particles": lfm.ELBO(particles=4),
    "sticking-the-landing": lfm.ELBO(gradient="sticking-the-landing"),
    "pyro": pyro.infer.Trace_ELBO(),
    "importance": lfm.ImportanceWeightedELBO(particles=1),
}


@pytest.mark.parametrize("prior", PRIORS)
def test_gradients_of_a_mixture_are_those_of_the_integral(prior):
    """Within 5 standard errors: 90 numbers, false alarm below 1e-4. Logits, means and scales of three components."""
    model = lfm.Model(z=PRIORS[prior](), x=lfm.Gaussian(1, mean=TanhSquare)).double()
    factor = lfm.MixtureOfGaussians(
        components=3,
        logits=lfm.Learned([0.3, -0.5, 0.1]),
        loc=lfm.Learned([[-1.0], [0.5], [1.2]]),
        scale=lfm.Learned([[0.5], [0.8], [0.3]]),
    )
    guide = lfm.Guide(model, z=factor)
    rows = torch.full((400, 1), 1.5, dtype=torch.float64)
    distribution = guide.factors["z"]()
    z = GRID[:, 0].exp() if prior == "positive" else GRID[:, 0]
    q = distribution.log_prob(GRID[:, 0])
    log_q = q - GRID[:, 0, 0] if prior == "positive" else q
    joint = model.factors["z"]().log_prob(z) + model.factors["x"](z).log_prob(rows[0])
    parameters = list(guide.parameters())

    def gradient(value):
        return torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters)])

    exact = gradient((q.exp() * (joint - log_q)).sum() * STEP)
    assert exact.abs().min() > 1e-3
    for name, objective in OBJECTIVES.items():
        torch.manual_seed(0)
        gradients = torch.stack(
            [
                gradient(-objective.differentiable_loss(model, guide, lfm.Batch(rows)) / len(rows))
                for _ in range(60)
            ]
        )
        error = gradients.std(0) / len(gradients) ** 0.5
        assert ((gradients.mean(0) - exact).abs() < 5 * error).all(), name


# The distribution of a flow ------------------------------------------------------------------------------

EVENTS = [(3,), (2, 2), (), (1,)]


def moved_flow(name, event=(3,), dtype=torch.float64):
    """A flow of one parent and rows of it. Its parameters are moved, as it starts as a Gaussian."""
    if name == "zuko":
        pytest.importorskip("zuko")
    torch.manual_seed(0)
    variable = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(1, mean=lfm.Linear())).latents["z"]
    factor = lfm.Flow(list(event) or 1, cases.FLOWS[name](), network=lfm.MLP(6))
    factor = factor.altered(event_shape=torch.Size(event))
    factor = factor.build("x", [variable]).to(dtype)
    with torch.no_grad():
        for parameter in factor.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return factor, torch.randn(5, 2, dtype=dtype)


@pytest.mark.parametrize("name", cases.FLOWS)
@pytest.mark.parametrize("event", EVENTS)
def test_the_density_of_a_flow_is_that_of_its_draws(name, event):
    """By the Jacobian of the draw with respect to its noise. A draw and an equal point have the same density."""
    factor, parents = moved_flow(name, event)
    distribution = factor(parents)
    assert distribution.batch_shape == (5,) and distribution.event_shape == event
    draw = distribution.rsample((4,))
    torch.testing.assert_close(
        distribution.log_prob(draw), distribution.log_prob(draw.clone()), rtol=0, atol=1e-8
    )
    noise = torch.randn(distribution.event_shape.numel(), dtype=torch.float64)

    def image(e):
        value = e.expand(5, -1)
        for transform in factor(parents).transforms:
            value = transform(value)
        return value[2].flatten()

    jacobian = torch.autograd.functional.jacobian(image, noise)
    expected = dist.Normal(0.0, 1.0).log_prob(noise).sum() - torch.linalg.slogdet(jacobian)[1]
    log_prob = distribution.log_prob(image(noise).reshape(event).expand(5, *event))[2]
    torch.testing.assert_close(log_prob, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", cases.FLOWS)
def test_a_flow_keeps_the_parameters_that_it_was_made_with(name):
    """Gradients that hold parameters need it: the density is evaluated after the module has its parameters back."""
    factor, parents = moved_flow(name)
    held = {n: p.detach() for n, p in factor.named_parameters()}
    z = factor(parents).sample()
    distribution = functional_call(factor, held, (parents,))
    assert not distribution.log_prob(z).requires_grad
    with torch.no_grad():
        before = distribution.log_prob(z.clone())
        factor.load_state_dict({n: torch.zeros_like(v) for n, v in factor.state_dict().items()}, assign=True)
        torch.testing.assert_close(distribution.log_prob(z.clone()), before)
        assert not torch.allclose(factor(parents).log_prob(z), before)


def test_the_float32_of_a_flow_is_its_float64_to_single_precision():
    for name in ("inverse-autoregressive", "neural-spline"):
        factor, parents = moved_flow(name)
        z = factor(parents).sample()
        exact = factor(parents).log_prob(z)
        single = factor.float()(parents.float()).log_prob(z.float())
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), exact, rtol=0, atol=1e-3)


def test_a_flow_keeps_the_contract_of_factors_whatever_it_reads():
    lfm.testing.check_factor(lfm.Flow(3, lfm.NeuralSpline(bins=4)))  # no parents
    lfm.testing.check_factor(lfm.Flow(3, network=lfm.PerRow()))
    lfm.testing.check_factor(lfm.Flow(3, loc=lfm.MLP(4)))  # one flow for all rows


def test_a_flow_serves_what_all_rows_share():
    class Shared(lfm.PyroModel):
        def forward(self, batch):
            scale = pyro.sample("scale", dist.LogNormal(0.0, 0.5))
            with batch.plate():
                pyro.sample("x", dist.Normal(torch.zeros(2), scale[..., None]).to_event(1), obs=batch["x"])

    model = Shared()
    guide = lfm.Guide(model, scale=lfm.Flow(flow=lfm.NeuralSpline()))
    lfm.testing.check_guide(guide, model)
    fit = lfm.fit(model, torch.randn(8, 2), lfm.SVI(guide, steps=2), seed=0, progress=False)
    assert fit.posterior().mean > 0


def test_the_moments_of_a_flow_over_draws_of_its_parents_are_those_of_its_draws():
    """Within 6 standard errors of two averages, of about 1,000 and of 3,000 draws: false alarm below 1e-7."""
    factor, _ = moved_flow("inverse-autoregressive")
    mixture = DrawMixture(factor(torch.randn(8, 5, 2, dtype=torch.float64)))
    draws = mixture.sample((3_000,))
    error = draws.std(0) * (1 / 3_000 + 1 / 1_000) ** 0.5
    assert mixture.mean.shape == (5, 3)
    assert ((draws.mean(0) - mixture.mean).abs() < 6 * error).all()
    torch.testing.assert_close(mixture.variance, draws.var(0), rtol=0.25, atol=0)


def test_importing_zuko_leaves_the_validation_of_arguments_as_it_was():
    pytest.importorskip("zuko")
    distribution = torch.distributions.Distribution
    before = pyro.settings.get(), vars(distribution)["arg_constraints"]
    lfm.Zuko("NSF")(2, 1)
    assert (pyro.settings.get(), vars(distribution)["arg_constraints"]) == before
    with pytest.raises(lfm.DeclarationError, match="a class in zuko.flows"):
        lfm.Zuko("NoSuchFlow")(2, 1)
    with pytest.raises(lfm.DeclarationError, match="over the reals"):
        lfm.Flow(2, lfm.Zuko("NCSF")).build("z", [])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: lfm.Flow(2, flow=3), "flow must be InverseAutoregressive"),
        (
            lambda: lfm.Flow(2, flow=lambda features, context: nn.Linear(2, 2)).build("z", []),
            "it gave Linear",
        ),
        (lambda: lfm.NeuralSpline(bins=1), "bins must be an int of at least 2"),
        (lambda: lfm.InverseAutoregressive(layers=0), "layers must be a positive int"),
    ],
)
def test_what_is_no_flow_is_refused_in_words(make, words):
    with pytest.raises(lfm.DeclarationError, match=words):
        make()
