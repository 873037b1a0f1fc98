"""A guide must have the support of the prior, and a prior the support that it declares."""

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import pyro_lfm as lfm

PRIORS = {
    "bernoulli": lambda: lfm.Bernoulli(2),
    "poisson": lambda: lfm.Poisson(2),
    "negative binomial": lambda: lfm.NegativeBinomial(2),
    "categorical": lambda: lfm.Categorical(3),
    "binomial": lambda: lfm.Binomial(2, total_count=5),
    "multinomial": lambda: lfm.Multinomial(2, total_count=4),
    "real": lambda: lfm.StandardNormal(2),
    "positive": lambda: lfm.Gamma(2),
    "unit interval": lambda: lfm.Beta(2),
    "simplex": lambda: lfm.Dirichlet(2),
}
GUIDES = {
    "bernoulli": lambda: lfm.Bernoulli(),
    "poisson": lambda: lfm.Poisson(),
    "zero-inflated": lambda: lfm.ZeroInflatedPoisson(),
    "categorical": lambda: lfm.Categorical(),
    "binomial": lambda: lfm.Binomial(total_count=5),
    "more trials": lambda: lfm.Binomial(total_count=6),
    "fewer trials": lambda: lfm.Binomial(total_count=4),
    "multinomial": lambda: lfm.Multinomial(total_count=4),
    "more in all": lambda: lfm.Multinomial(total_count=5),
    "gaussian": lambda: lfm.Gaussian(),
    "gamma": lambda: lfm.Gamma(),
    "log-normal": lambda: lfm.LogNormal(),
    "beta": lambda: lfm.Beta(),
    "dirichlet": lambda: lfm.Dirichlet(),
    "logistic-normal": lambda: lfm.LogisticNormal(),
}
REAL = {"gaussian"}
SERVES = {
    "bernoulli": {"bernoulli"},
    "poisson": {"poisson", "zero-inflated"},
    "negative binomial": {"poisson", "zero-inflated"},
    "categorical": {"categorical"},
    "binomial": {"binomial"},
    "multinomial": {"multinomial"},
    "real": REAL,
    "positive": {"gamma", "log-normal"} | REAL,
    "unit interval": {"beta"} | REAL,
    "simplex": {"dirichlet", "logistic-normal"} | REAL,
}


def model_of(prior):
    return lfm.Model(z=prior, x=lfm.Gaussian(3, mean=lfm.MLP(4), given="z"))


@pytest.mark.parametrize(("prior", "guide"), itertools.product(PRIORS, GUIDES))
def test_every_pair_is_served_or_refused_in_words(prior, guide):
    model = model_of(PRIORS[prior]())
    if guide not in SERVES[prior]:
        with pytest.raises((lfm.DeclarationError, lfm.ShapeError), match="z|Multinomial"):
            lfm.Guide(model, z=GUIDES[guide]())
        return
    made = lfm.Guide(model, z=GUIDES[guide]())
    assert lfm.ELBO(2).bound(model, made, lfm.Batch(model.sample(4, seed=0)["x"])).per_row.isfinite().all()


@pytest.mark.parametrize(
    ("prior", "guide", "words"),
    [
        (
            "bernoulli",
            "poisson",
            "Poisson takes whole numbers from 0, the latent whole numbers from 0 to 1: a guide must not",
        ),
        (
            "categorical",
            "poisson",
            "whole numbers from 0 to 2: a guide must not draw what the prior gives no mass",
        ),
        ("binomial", "more trials", "from 0 to 6, the latent whole numbers from 0 to 5: a guide must not"),
        ("binomial", "fewer trials", "a guide must draw all that the prior gives mass: estimates of log p"),
        ("real", "gamma", "numbers from 0, the latent all numbers: a guide must draw all"),
        ("unit interval", "gamma", "numbers from 0, the latent numbers from 0 to 1: a guide must not"),
        ("unit interval", "log-normal", "numbers from 0, the latent numbers from 0 to 1: a guide must not"),
        ("multinomial", "more in all", r"Compositions\(total=5\), the latent Compositions\(total=4\)"),
    ],
)
def test_words(prior, guide, words):
    with pytest.raises(lfm.DeclarationError, match=words):
        lfm.Guide(model_of(PRIORS[prior]()), z=GUIDES[guide]())


def test_bounds_of_the_support_may_differ_from_entry_to_entry():
    class Box(lfm.Prior):
        def forward(self):
            return dist.Uniform(torch.tensor([0.0, -1.0]), torch.tensor([1.0, 3.0])).to_event(1)

    class Wider(lfm.Factor):
        def forward(self, x):
            return (
                dist.Uniform(torch.tensor([0.0, -1.0]), torch.tensor([1.0, 4.0]))
                .expand([len(x), 2])
                .to_event(1)
            )

    class Same(lfm.Factor):
        def forward(self, x):
            return (
                dist.Uniform(torch.tensor([0.0, -1.0]), torch.tensor([1.0, 3.0]))
                .expand([len(x), 2])
                .to_event(1)
            )

    model = model_of(Box(2))
    lfm.Guide(model, z=Same())
    lfm.Guide(model, z=lfm.Gaussian())
    with pytest.raises(lfm.DeclarationError, match="must not draw"):
        lfm.Guide(model, z=Wider())


# Guides by hand --------------------------------------------------------------------------------------------


def by_hand(distribution, plate=True):
    def program(batch):
        if not plate:
            return pyro.sample("z", distribution)
        with batch.plate():
            return pyro.sample("z", distribution)

    return lfm.PyroGuide(program)


BY_HAND = {
    "poisson for bernoulli": ("bernoulli", dist.Poisson(torch.ones(2)).to_event(1), True),
    "binomial with more trials": ("binomial", dist.Binomial(7, torch.full((2,), 0.5)).to_event(1), True),
    "bernoulli for poisson": ("poisson", dist.Bernoulli(torch.full((2,), 0.5)).to_event(1), False),
    "normal for gamma": ("positive", dist.Normal(torch.ones(2), 0.1).to_event(1), True),
    "gamma for real": ("real", dist.Gamma(torch.ones(2), 1.0).to_event(1), False),
    "log-normal for beta": ("unit interval", dist.LogNormal(torch.zeros(2), 1.0).to_event(1), True),
    "carried": ("positive", dist.TransformedDistribution(
        dist.Normal(torch.zeros(2), 1.0), dist.transforms.ExpTransform()).to_event(1), False),
    "carried by an affine map": ("unit interval", dist.TransformedDistribution(
        dist.Beta(torch.ones(2), 1.0), dist.transforms.AffineTransform(0.25, 0.5)).to_event(1), False),
    "carried too far": ("unit interval", dist.TransformedDistribution(
        dist.Beta(torch.ones(2), 1.0), dist.transforms.AffineTransform(0.0, 2.0)).to_event(1), True),
    "a point inside": ("positive", dist.Delta(torch.ones(2), event_dim=1), False),
    "a point outside": ("positive", dist.Delta(-torch.ones(2), event_dim=1), True),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_HAND)
def test_a_guide_by_hand_is_looked_at_when_it_first_runs(name):
    prior, distribution, refused = BY_HAND[name]
    model = model_of(PRIORS[prior]())
    batch = lfm.Batch(model.sample(4, seed=0)["x"])
    if not refused:
        assert lfm.ELBO(kl="monte-carlo").bound(model, by_hand(distribution), batch).per_row.isfinite().all()
        return
    for objective in (lfm.ELBO(), lfm.ImportanceWeightedELBO(3), lfm.ReweightedWakeSleep(3)):
        with pytest.raises(lfm.DeclarationError, match="must not draw values without mass under the prior"):
            objective.bound(model, by_hand(distribution), batch)


def test_a_guide_by_hand_that_forgets_the_plate_is_refused():
    model = model_of(lfm.StandardNormal(2))
    with pytest.raises(lfm.DeclarationError, match=r"must draw z inside `with batch\.plate\(\):`"):
        lfm.ELBO().bound(
            model,
            by_hand(dist.Normal(torch.zeros(2), 1.0).to_event(1), plate=False),
            lfm.Batch(torch.zeros(4, 3)),
        )


# Priors whose support is not what they declare ---------------------------------------------------------------


class Real(lfm.Prior):
    """A prior over some distribution, as declared."""

    def __init__(self, distribution):
        super().__init__(2)
        self.distribution = distribution

    def forward(self):
        return self.distribution().to_event(1)


class Box(dist.Uniform):
    """It says that it takes all the reals, and has no density outside."""

    support = constraints.real

    def log_prob(self, value):
        inside = (value >= self.low) & (value <= self.high)
        return torch.where(inside, -(self.high - self.low).log(), -torch.inf)


class Forgetful(dist.Uniform):
    """It forgets to look."""

    support = constraints.real

    def log_prob(self, value):
        return -(self.high - self.low).log() + 0 * value


class Truncated(dist.Normal):
    """Drawn by rejection, with the density of the whole."""

    def sample(self, sample_shape=()):
        return super().sample(sample_shape).abs()


class Angle(dist.VonMises):
    """The circle, cut open."""

    support = constraints.interval(-math.pi, math.pi)


FAULTY = {
    "von Mises": (lambda: dist.VonMises(torch.zeros(2), 4.0), "its density goes on beyond them"),
    "narrow von Mises": (lambda: dist.VonMises(torch.zeros(2), 80.0), "its density goes on beyond them"),
    "box": (lambda: Box(torch.zeros(2), 1.0, validate_args=False), "it has no density beyond them"),
    "forgetful": (lambda: Forgetful(torch.zeros(2), 1.0), "its density goes on beyond them"),
    "truncated": (lambda: Truncated(torch.zeros(2), 1.0), "its density goes on beyond them"),
    "affine beta": (
        lambda: dist.TransformedDistribution(dist.Beta(torch.ones(2), 1.0), dist.transforms.AffineTransform(0.0, 3.0)),
        "log_prob refuses values beyond them",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTY)
def test_a_wrong_support_is_named_where_prior_and_guide_meet_and_by_the_check(name):
    distribution, words = FAULTY[name]
    with pytest.raises(
        lfm.testing.ContractError, match=f"declares all numbers for its support, but its draws lie .*{words}"
    ):
        lfm.testing.check_prior(Real(distribution))
    model = model_of(Real(distribution))
    with pytest.raises(lfm.DeclarationError, match=f"z: its prior has not the support .*{words}"):
        lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    with pytest.raises(lfm.DeclarationError, match="z: "):
        lfm.ELBO().bound(
            model, by_hand(dist.Normal(torch.zeros(2), 1.0).to_event(1)), lfm.Batch(torch.zeros(4, 3))
        )


def test_the_same_fault_in_a_program():
    def program(batch):
        with batch.plate():
            z = pyro.sample("z", dist.VonMises(0.0, 2.0))
            pyro.sample("x", dist.Normal(z.cos(), 0.5), obs=batch["x"])

    with pytest.raises(lfm.DeclarationError, match="z: its prior has not the support"):
        lfm.Guide(lfm.PyroModel(program), z=lfm.Gaussian())


def test_the_remedy_gives_a_bound():
    """On (−π, π): log p(x) by quadrature, x = cos z + noise."""

    class Circle(lfm.Prior):
        def forward(self):
            return Angle(torch.zeros(1), 2.0).to_event(1)

    class Cosine(torch.nn.Module):
        def forward(self, z):
            return z.cos()

    lfm.testing.check_prior(Circle(1))
    model = lfm.Model(
        z=Circle(1), x=lfm.Gaussian(1, mean=Cosine(), covariance=lfm.Isotropic(lfm.Fixed(0.25)))
    )
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    x = torch.tensor([[0.2], [-0.5], [0.9]])
    z = torch.linspace(-math.pi, math.pi, 20001)
    density = dist.VonMises(0.0, 2.0).log_prob(z) + dist.Normal(z.cos(), 0.5).log_prob(x)
    exact = torch.trapezoid(density.exp(), z).log()
    bound_per_row = lfm.ImportanceWeightedELBO(20000).bound(model, guide, lfm.Batch(x)).per_row
    assert torch.allclose(bound_per_row, exact, atol=0.05)
    assert (lfm.ELBO(5000).bound(model, guide, lfm.Batch(x)).per_row < exact).all()


def test_a_guide_of_the_priors_own_family_is_a_bound_whatever_it_declares():
    class Directions(lfm.Factor):
        constraints = {"concentration": dist.constraints.softplus_positive}

        def __init__(self, event=None, loc=None, concentration=None, *, given=None, network=None):
            super().__init__(
                event, {"loc": loc, "concentration": concentration}, given=given, network=network
            )

        def distribution(self, loc, concentration):
            return dist.VonMises(loc, concentration + 0.5).to_event(1)

    model = model_of(Real(lambda: dist.VonMises(torch.zeros(2), 4.0)))
    lfm.Guide(model, z=Directions())
    distribution = dist.VonMises(torch.zeros(2), 1.0).to_event(1)
    assert (
        lfm.ELBO().bound(model, by_hand(distribution), lfm.Batch(torch.zeros(4, 3))).per_row.isfinite().all()
    )


SOUND = [
    dist.Normal(0.0, 1.0), dist.Cauchy(0.0, 1.0), dist.StudentT(0.5), dist.Gumbel(0.0, 1.0), dist.Gamma(0.01, 1.0),
    dist.Beta(0.03, 0.03), dist.LogNormal(0.0, 5.0), dist.Laplace(0.0, 1.0), dist.Pareto(1.0, 0.3), dist.Poisson(0.5),
    dist.NegativeBinomial(0.1, torch.tensor(0.99)), dist.Geometric(0.001), dist.HalfCauchy(1.0), dist.Weibull(1.0, 0.2),
    dist.Kumaraswamy(0.1, 0.1), dist.Uniform(-2.0, 3.0), dist.InverseGamma(0.2, 1.0), dist.SoftLaplace(0.0, 1.0),
    dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Normal(torch.tensor([-1e3, 1e3]), 1.0)),
    dist.MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.9999], [0.9999, 1.0]])),
    dist.TruncatedPolyaGamma(torch.tensor(1.0)), dist.VonMises3D(torch.ones(3)), dist.HalfNormal(1.0),
]  # fmt: skip


@pytest.mark.parametrize("distribution", SOUND, ids=lambda distribution: type(distribution).__name__)
def test_no_alarm_for_distributions_that_are_sound(distribution):
    from pyro_lfm.distributions.support_check import support_fault

    for seed in range(5):
        torch.manual_seed(seed)
        assert support_fault(distribution) is None
