"""Latents at the edge of their support: values stay inside, and bounds are exact for the drawn values."""

import math

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import biject_to, constraints

import pyro_lfm as lfm
from pyro_lfm.distributions.draw_annotations import log_of
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.distributions.supports import from_reals

KINDS = [torch.float32, torch.float64]
SUPPORTS = {
    "positive": constraints.positive,
    "nonnegative": constraints.nonnegative,
    "unit-interval": constraints.unit_interval,
    "interval": constraints.interval(-1.0, 3.0),
    "narrow-interval": constraints.interval(1e6, 1e6 + 2.0),
    "above": constraints.greater_than(2.0),
    "below": constraints.less_than(2.0),
    "simplex": constraints.simplex,
    "vector": constraints.independent(constraints.unit_interval, 1),
}


def inside(support, value):
    if support is constraints.simplex:
        return (value > 0).all() and torch.allclose(value.sum(-1), torch.ones(()).to(value), atol=1e-5)
    base = getattr(support, "base_constraint", support)
    low, high = getattr(base, "lower_bound", -math.inf), getattr(base, "upper_bound", math.inf)
    return ((value > low) & (value < high)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SUPPORTS)
def test_values_stay_inside_with_finite_gradients_however_far_the_point(name, kind):
    support, bijection = SUPPORTS[name], from_reals(SUPPORTS[name])
    for far in (-1e4, -800.0, -200.0, -90.0, 0.0, 90.0, 200.0, 800.0, 1e4):
        free = torch.full((4,), far, dtype=kind, requires_grad=True)
        value = bijection(free)
        assert value.isfinite().all()
        assert inside(support, value), (far, value)
        slope = bijection.log_abs_det_jacobian(free, value)
        assert slope.isfinite().all()
        (gradient,) = torch.autograd.grad(slope.sum() + value.sum().log() + log_of(value.abs()).sum(), free)
        assert gradient.isfinite().all(), (far, gradient)
        assert bijection.inv(value).isfinite().all()


@pytest.mark.parametrize("name", SUPPORTS)
def test_the_maps_are_those_of_biject_to(name):
    bijection, other = from_reals(SUPPORTS[name]), biject_to(SUPPORTS[name])
    free = 2 * torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    value = bijection(free)
    torch.testing.assert_close(value, other(free))
    torch.testing.assert_close(
        bijection.log_abs_det_jacobian(free, value), other.log_abs_det_jacobian(free, other(free))
    )
    # The inverse, with the annotations of a draw and without them. Near 10⁶ numbers have fewer digits.
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if name == "narrow-interval" else {}
    torch.testing.assert_close(bijection.inv(value), free, **tolerance)
    torch.testing.assert_close(bijection.inv(value.clone()), free, **tolerance)


class Wrapped(lfm.Prior):
    """A prior of Pyro's own distributions, as a user writes one."""

    def __init__(self, make):
        super().__init__(1)
        self.make = make

    def forward(self):
        return self.make().to_event(1)


def one(value):
    return torch.tensor([value], dtype=torch.get_default_dtype())


PRIORS = {
    "beta": lambda: lfm.Beta(1, concentration1=lfm.Fixed(0.03), concentration0=lfm.Fixed(0.05)),
    "gamma": lambda: lfm.Gamma(1, concentration=lfm.Fixed(0.01), rate=lfm.Fixed(2.0)),
    "log-normal": lambda: lfm.LogNormal(1, loc=lfm.Fixed(-20.0), scale=lfm.Fixed(40.0)),
    "dirichlet": lambda: lfm.Dirichlet(2, concentration=lfm.Fixed(0.03)),
    "logistic-normal": lambda: lfm.LogisticNormal(
        2, mean=lfm.Fixed(0.0), covariance=lfm.Diagonal(lfm.Fixed(900.0))
    ),
    "pyro-beta": lambda: Wrapped(lambda: dist.Beta(one(0.05), one(0.03))),
    "pyro-gamma": lambda: Wrapped(lambda: dist.Gamma(one(0.02), one(0.1))),
    "pyro-half-cauchy": lambda: Wrapped(lambda: dist.HalfCauchy(one(3.0))),
    "pyro-log-normal": lambda: Wrapped(lambda: dist.LogNormal(one(0.0), one(50.0))),
    "pyro-kumaraswamy": lambda: Wrapped(lambda: dist.Kumaraswamy(one(0.03), one(0.05))),
    "pyro-uniform": lambda: Wrapped(lambda: dist.Uniform(one(-1.0), one(3.0))),
}


class Twice(torch.nn.Module):
    """x | z has the mean 2z, of the first entry alone."""

    def __init__(self, in_size, out_size):
        super().__init__()

    def forward(self, z):
        return 2 * z[..., :1].clamp_max(10.0)


def model_of(prior):
    return lfm.Model(
        z=PRIORS[prior](), x=lfm.Gaussian(1, mean=Twice, covariance=lfm.Isotropic(lfm.Fixed(1.0)))
    )


def grid():
    """Points on the reals, dense at 0, and their logarithmic widths."""
    u = torch.linspace(-8, 8, 60_001, dtype=torch.float64).sinh()
    return u, torch.gradient(u)[0].log()


def log_prior(prior, u):
    """ln p of the real value that the bijection maps onto the support, in double precision."""
    with torch.no_grad():
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            distribution = model_of(prior).factors["z"]()
        finally:
            torch.set_default_dtype(default)
        bijection = from_reals(distribution.support)
        z = bijection(u[:, None])
        slope = bijection.log_abs_det_jacobian(u[:, None], z).reshape(len(u), -1).sum(-1)
        return distribution.log_prob(z).reshape(-1) + slope, z


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (-60.0, 80.0), (50.0, 30.0), (-400.0, 20.0)])
def test_the_divergence_of_a_gaussian_on_the_reals_is_that_of_quadrature(prior, mean, scale):
    """In single precision, against double; 44 comparisons within 6 standard errors, false alarm below 1e-7."""
    if "gamma" in prior and mean + 4 * scale > 10:
        pytest.skip("E[e^u], of the rate, is beyond floating point")
    u, width = grid()
    log_p, _ = log_prior(prior, u)
    log_q = dist.Normal(torch.tensor(mean).double(), scale).log_prob(u)
    # Where q underflows, log p may be infinite.
    weight = (log_q + width).exp()
    truth = (weight * torch.where(weight > 0, log_p - log_q, 0.0)).sum()
    model = model_of(prior)
    guide = lfm.Guide(
        model,
        z=lfm.Gaussian(mean=lfm.Fixed(mean), covariance=lfm.Diagonal(lfm.Fixed(scale**2))),
    )
    torch.manual_seed(0)
    q = guide.distribution("z", {}, lfm.Batch({"x": torch.zeros(1, 1)}))
    draws = q.rsample((40_000,))
    log_weights = (model.factors["z"]().log_prob(draws) - q.log_prob(draws)).detach().double()
    error = log_weights.std() / len(log_weights) ** 0.5
    assert (log_weights.mean() - truth).abs() < 6 * error + 1e-4 * truth.abs() + 1e-3


TRAINED = ["beta", "gamma", "dirichlet", "pyro-beta", "pyro-half-cauchy", "pyro-uniform"]
OBJECTIVES = {
    "elbo": lambda: lfm.ELBO(particles=8),
    "sticking": lambda: lfm.ELBO(particles=8, kl="monte-carlo", gradient="sticking-the-landing"),
    "doubly": lambda: lfm.ImportanceWeightedELBO(8, gradient="doubly-reparametrized"),
}


@pytest.mark.parametrize("prior", TRAINED)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_bound_trained_in_single_precision_stays_below_the_evidence(prior, objective):
    u, width = grid()
    log_p, z = log_prior(prior, u)
    x = torch.tensor([[0.0], [1.0], [1.9], [4.0]])
    likelihood = dist.Normal(2 * z[:, 0].clamp_max(10.0), 1.0).log_prob(x.double())
    evidence = (likelihood + log_p + width).logsumexp(1).mean()
    torch.manual_seed(0)
    model = model_of(prior)
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    inference = lfm.SVI(
        guide, objective=OBJECTIVES[objective](), epochs=60, learning_rate=3e-2, engine="eager"
    )
    fit = lfm.fit(model, x.repeat(10, 1), inference, seed=0, progress=False)
    bounds = torch.tensor([record["bound"] for record in fit.history])
    assert bounds.isfinite().all()
    # Of 320 draws and more each; a bound's draws are of the order of a nat.
    assert bounds.max() < evidence + 0.3
    assert bounds[-10:].mean() > evidence - 5  # close, as the prior spans hundreds of nats


@pytest.mark.parametrize("kind", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)])
def test_documents_with_few_topics_each_train_at_a_high_learning_rate(kind):
    """Dirichlet(0.05), a Gaussian guide, 100 words, a learning rate of 3e-2."""
    generator = torch.Generator().manual_seed(0)
    shares = dist.Dirichlet(torch.full((4,), 0.05, dtype=torch.float64))
    torch.manual_seed(0)
    topics = torch.distributions.Dirichlet(torch.full((12,), 0.2)).sample((4,))
    words = (shares.sample((200,)).float() @ topics).multinomial(100, True, generator=generator)
    rows = torch.nn.functional.one_hot(words, 12).sum(1).to(kind)

    class Mixed(torch.nn.Module):
        def __init__(self, in_size, out_size):
            super().__init__()
            self.topics = torch.nn.Parameter(torch.randn(in_size, out_size))

        def forward(self, z):
            return (z @ self.topics.softmax(-1)).log()

    model = lfm.Model(
        z=lfm.Dirichlet(4, concentration=lfm.Fixed(0.05)),
        x=lfm.Multinomial(12, total_count=100, logits=Mixed),
    ).to(kind)
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(16)))
    fit = lfm.fit(
        model,
        rows,
        lfm.SVI(guide, epochs=40, learning_rate=3e-2, batch_size=50, engine="eager"),
        seed=0,
        progress=False,
    )
    bounds = [record["bound"] for record in fit.history]
    assert all(map(math.isfinite, bounds))
    assert bounds[-1] > bounds[0] + 20


def test_observed_rows_beside_draws_keep_the_logarithms_of_both():
    model = lfm.Model(z=lfm.Dirichlet(3, concentration=lfm.Fixed(0.02)), x=lfm.Gaussian(2, mean=lfm.Linear()))
    guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Fixed([-300.0, 200.0]), covariance=lfm.Diagonal()))
    known = torch.full((4, 3), torch.nan)
    known[0] = torch.tensor([0.2, 0.3, 0.5])
    batch = lfm.Batch({"x": torch.zeros(4, 2), "z": known})
    q = guide.distribution("z", {}, batch)
    draws = q.rsample()
    torch.testing.assert_close(draws[0], known[0])
    torch.testing.assert_close(log_of(draws)[0], known[0].log())
    assert (log_of(draws)[1:, 0] < -250).all()
    assert model.factors["z"]().log_prob(draws).isfinite().all()
    assert q.log_prob(draws)[1:].abs().max() < 1e3


def test_the_density_of_a_pushforward_at_its_draws_needs_no_inverse():
    """It is computed from the value before the map, also by another distribution with the same map."""
    base = dist.Normal(torch.tensor([-1e4, 0.0, 1e4]), 1.0).to_event(1)
    pushforward = Pushforward(base, [from_reals(constraints.independent(constraints.interval(0.0, 5.0), 1))])
    torch.manual_seed(0)
    draws = pushforward.rsample((100,))
    again = Pushforward(base, [from_reals(constraints.independent(constraints.interval(0.0, 5.0), 1))])
    for distribution in (pushforward, again):
        log_prob = distribution.log_prob(draws)
        # About −½ (3 + 3 ln 2π) less the slopes, −10⁴ at either end.
        assert ((log_prob - 2e4).abs() < 30).all()


@pytest.mark.parametrize(
    "prior",
    [
        lfm.Dirichlet(5, concentration=lfm.Fixed(0.05)),
        lfm.Beta(5, lfm.Fixed(0.03), lfm.Fixed(0.03)),
    ],
)
def test_an_ill_conditioned_full_gaussian_has_no_bound_above_zero(prior):
    g = torch.Generator().manual_seed(0)
    topics = torch.rand(5, 30, generator=g).pow(8)
    mixed = torch.rand(200, 5, generator=g).pow(6)
    shares = mixed @ topics / (mixed @ topics).sum(-1, keepdim=True)
    words = torch.multinomial(shares, 100, replacement=True, generator=g)
    counts = torch.zeros(200, 30).scatter_add_(1, words, torch.ones(200, 100))
    model = lfm.Model(z=prior, x=lfm.Multinomial(30, total_count=100, logits=lfm.Linear()))
    guide = lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(32)))
    fit = lfm.fit(model, counts, lfm.SVI(guide, epochs=25, learning_rate=0.1), seed=0, progress=False)
    # A distribution over counts: its log probability is negative.
    assert all(-1e4 < record["bound"] < 0 for record in fit.history)
    assert float(fit.bound(seed=0).mean()) < 0


def test_the_density_of_draws_of_an_ill_conditioned_gaussian_is_that_of_double_precision():
    tril = torch.tensor([[1.0, 0.0, 0.0], [300.0, 0.5, 0.0], [1e6, -2e4, 1e-3]])
    wide = torch.distributions.MultivariateNormal(torch.zeros(3).double(), scale_tril=tril.double())
    distribution = lfm.Full(min_scale=0.0).distribution(
        torch.full((3,), 700.0),
        lfm.Full().tril_to_raw(tril, torch.zeros(3)),
        torch.Size((3,)),
        torch.zeros(3),
    )
    draws = distribution.rsample((2000,))
    # ln q = −½ χ² − ln |L| + const: the mean over draws is minus the entropy, within 5 of its standard errors.
    assert abs(float(distribution.log_prob(draws).mean() + wide.entropy())) < 5 * (3 / 2 / 2000) ** 0.5
    # The density of other values is computed by a triangular solve.
    assert torch.equal(distribution.log_prob(draws.clone()), distribution.log_prob(draws + 0.0))
