"""The checks for parts of one's own name every fault that a part can have."""

import cases
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyro_lfm as lfm
from pyro_lfm.testing import ContractError
from pyro_lfm.testing.draws_and_log_prob import distribution_faults


class Shifted(dist.Normal):
    """Draws that are not from its density."""

    shift, stretch, constant, shape = 0.0, 1.0, 0.0, False

    def expand(self, batch_shape, _instance=None):
        return type(self)(self.loc.expand(batch_shape), self.scale.expand(batch_shape))

    def sample(self, sample_shape=()):
        draws = super().sample(sample_shape)
        if self.shape:  # Laplace draws of the same variance
            draws = dist.Laplace(self.loc, self.scale / 2**0.5).sample(sample_shape)
        return self.stretch * draws + self.shift

    def log_prob(self, value):
        return super().log_prob(value) + self.constant


def wrong_distribution(**how):
    return type("Wrong", (Shifted,), how)


class Made(lfm.Prior):
    """A prior from a function, to be broken in one way at a time."""

    def __init__(self, dim, make):
        super().__init__(dim)
        self.make = make

    def forward(self):
        return self.make(self.dim)


class Left(lfm.Prior):
    def __init__(self, dim):
        super().__init__(dim)
        self.loc = torch.zeros(dim)

    def forward(self):
        return dist.Normal(self.loc, 1.0).to_event(1)


class Unreached(lfm.Prior):
    def __init__(self, dim):
        super().__init__(dim)
        self.scale = nn.Parameter(torch.ones(dim))
        self.idle = nn.Parameter(torch.ones(dim))

    def forward(self):
        return dist.Normal(0.0, self.scale).to_event(1)


class Cut(lfm.Prior):
    """Its parameter is detached on the way."""

    def __init__(self, dim):
        super().__init__(dim)
        self.scale = nn.Parameter(torch.ones(dim))

    def forward(self):
        return dist.Normal(0.0, self.scale.detach()).to_event(1)


class HalfPrecise(lfm.Prior):
    def __init__(self, dim):
        super().__init__(dim)
        self.loc = nn.Parameter(torch.zeros(dim))

    def forward(self):
        return dist.Normal(self.loc.float(), 1.0).to_event(1)


class OutOfRange(dist.Gamma):
    def expand(self, batch_shape, _instance=None):
        return OutOfRange(self.concentration.expand(batch_shape), self.rate.expand(batch_shape))

    def sample(self, sample_shape=()):
        return -super().sample(sample_shape)


BROKEN_PRIORS = {
    "event shape": (lambda: Made(3, lambda d: dist.Normal(torch.zeros(d), 1.0)), r"event shape must be \(3,\)"),
    "batch shape": (
        lambda: Made(3, lambda d: dist.Normal(torch.zeros(7, d), 1.0).to_event(1)),
        r"batch shape must be \(\)",
    ),
    "kind": (lambda: Made(3, lambda d: torch.zeros(d)), "must return a distribution; got Tensor"),
    "torch's kind": (
        lambda: Made(3, lambda d: torch.distributions.MultivariateNormal(torch.zeros(d), torch.eye(d))),
        "distribution of pyro.distributions",
    ),
    "shape of the distribution": (
        lambda: Made(1, lambda d: wrong_distribution(shape=True)(torch.zeros(d), 1.0).to_event(1)),
        "samples do not match log_prob",
    ),
    "support": (
        lambda: Made(2, lambda d: OutOfRange(torch.full((d,), 2.0), torch.ones(d), validate_args=False).to_event(1)),
        "draws lie outside its own support",
    ),
    "location": (
        lambda: Made(2, lambda d: wrong_distribution(shift=0.3)(torch.zeros(d), 1.0).to_event(1)),
        "samples do not match log_prob",
    ),
    "scale": (
        lambda: Made(2, lambda d: wrong_distribution(stretch=1.3)(torch.zeros(d), 1.0).to_event(1)),
        "samples do not match log_prob",
    ),
    "constant": (
        lambda: Made(2, lambda d: wrong_distribution(constant=-0.5)(torch.zeros(d), 1.0).to_event(1)),
        "integrates to about 0.3",
    ),
    "idle parameter": (lambda: Unreached(2), "no gradient reaches the parameter idle"),
    "detached parameter": (lambda: Cut(2), "no gradient reaches the parameter scale"),
    "plain tensor": (lambda: Left(2), "self.loc of Left is a plain attribute.*register_buffer"),
    "dtype": (lambda: HalfPrecise(2), "in float64 its log_prob is float32"),
    "crash": (lambda: Made(2, lambda d: dist.Normal(torch.zeros(d, 3) @ torch.zeros(2, 2), 1.0)), "running it failed"),
    "not a prior": (lambda: lfm.Gaussian(3), "a prior is a subclass of lfm.Prior"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN_PRIORS)
def test_check_prior_names_the_fault(fault):
    make, words = BROKEN_PRIORS[fault]
    with pytest.raises(ContractError, match=words):
        lfm.testing.check_prior(make())


def test_check_factor_names_the_fault():
    class Summed(lfm.Factor):
        """Forgets the batch of its parents."""

        def forward(self, z):
            return dist.Normal(z.sum() + torch.zeros(self.dim), 1.0).to_event(1)

    class Wide(lfm.Factor):
        def forward(self, z):
            return dist.Normal(z.sum(-1, keepdim=True).expand(*z.shape[:-1], 2 * self.dim), 1.0).to_event(1)

    class Mixed(lfm.Factor):
        def forward(self, z):
            return dist.Normal(z.sum(-1, keepdim=True) + torch.zeros(3, 1, self.dim), 1.0).to_event(1)

    class Averaged(lfm.Factor):
        def forward(self, z):
            return dist.Normal(z.mean(0).sum() + z[..., :1] + torch.zeros(self.dim), 1.0).to_event(1)

    class Flattened(lfm.Factor):
        def forward(self, z):
            return dist.Normal(z.reshape(-1, 2)[:, :1] + torch.zeros(self.dim), 1.0).to_event(1)

    for mixing in (Averaged, Summed):
        with pytest.raises(ContractError, match="changes with the other rows|two distributions of each row"):
            lfm.testing.check_factor(mixing(3))
    with pytest.raises(ContractError, match=r"two distributions of each row|running it failed"):
        lfm.testing.check_factor(Flattened(3))
    with pytest.raises(ContractError, match=r"event shape must be \(3,\), as declared; got \(6,\)"):
        lfm.testing.check_factor(Wide(3))
    with pytest.raises(ContractError, match=r"batch shape must be \(5,\) for 5 rows"):
        lfm.testing.check_factor(Mixed(3))

    def broken(in_size, out_size):
        return nn.Linear(in_size, out_size / 0)

    with pytest.raises(ContractError, match="running it failed: ZeroDivisionError"):
        lfm.testing.check_factor(lfm.Gaussian(3, mean=broken))
    with pytest.raises(ContractError, match="a factor is a subclass"):
        lfm.testing.check_factor(lfm.MLP(3))


def by_hand(program):
    """A guide by hand with one network, its sample statements written by ``program``."""

    class Guide(lfm.PyroGuide):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(cases.D, cases.K)

        def forward(self, batch):
            with batch.plate():
                program(self, batch)

    return Guide()


def latent(distribution):
    return lambda self, batch: pyro.sample("z", distribution(self.net(batch["x"])))


BROKEN_GUIDES = {
    "never samples the latent z": lambda self, b: pyro.sample("w", dist.Normal(self.net(b["x"]), 1.0).to_event(1)),
    "must have event shape|running it failed": latent(lambda loc: dist.Normal(loc, 1.0)),
    r"must have shape \(5, 3\) for 5 rows; got \(5, 2\)|got \(5, 2\)": latent(
        lambda loc: dist.Normal(loc[:, :2], 1.0).to_event(1)
    ),
    "no gradient reaches the parameter net": latent(lambda loc: dist.Normal(loc.detach(), 1.0).to_event(1)),
    "z: samples do not match log_prob": latent(lambda loc: wrong_distribution(shift=0.5)(loc, 1.0).to_event(1)),
    "z is drawn from a discrete distribution": latent(lambda loc: dist.Poisson(loc.exp()).to_event(1)),
}  # fmt: skip


@pytest.mark.parametrize("words", BROKEN_GUIDES)
def test_check_guide_names_the_fault(words):
    with pytest.raises(ContractError, match=words):
        lfm.testing.check_guide(by_hand(BROKEN_GUIDES[words]), cases.plain())


def test_check_guide_looks_at_plates_and_observations():
    class NoPlate(lfm.PyroGuide):
        def forward(self, batch):
            distribution = dist.Normal(torch.zeros(batch.size, cases.K), 1.0).to_event(2)
            pyro.sample("z", distribution)

    class Observing(lfm.PyroGuide):
        def forward(self, batch):
            with batch.plate():
                pyro.sample("z", dist.Normal(torch.zeros(cases.K), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(torch.zeros(cases.D), 1.0).to_event(1), obs=batch["x"])

    with pytest.raises(ContractError, match="z must be drawn inside `with batch.plate"):
        lfm.testing.check_guide(NoPlate(), cases.plain())
    with pytest.raises(ContractError, match="it observes x"):
        lfm.testing.check_guide(Observing(), cases.plain())


def test_check_guide_passes_sound_guides_and_leaves_them_alone():
    model, guide = cases.plain(), cases.HandGuide()
    before = [p.detach().clone() for p in guide.parameters()]
    lfm.testing.check_guide(guide, model)
    assert all(torch.equal(a, b) for a, b in zip(before, guide.parameters(), strict=True))
    assert not guide.tables
    rows = cases.guide_for(model, cases.GUIDES["per-row"])
    lfm.testing.check_guide(rows, model)
    assert len(rows.tables[0].rows) == 0


@pytest.mark.parametrize(
    "distribution",
    [
        dist.StudentT(3.0, torch.zeros(4), 1.0).to_event(1),
        dist.Cauchy(torch.zeros(2), 1.0).to_event(1),
        dist.Dirichlet(torch.full((4,), 0.5)),
        dist.Beta(torch.full((3,), 0.5), 0.5).to_event(1),
        dist.Uniform(torch.zeros(3), 2.0).to_event(1),
        dist.LogNormal(torch.zeros(2), 2.0).to_event(1),
        dist.MultivariateNormal(torch.zeros(5), torch.eye(5) * 0.5 + 0.5),
        dist.Poisson(torch.tensor([3.0, 0.1])).to_event(1),
        dist.Bernoulli(torch.tensor([0.3, 0.9])).to_event(1),
        dist.Categorical(torch.tensor([0.3, 0.6, 0.1])),
        dist.Normal(torch.zeros(200), 1.0).to_event(1),
        dist.LKJCholesky(3, 1.0),
        dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Normal(torch.tensor([-20.0, 20.0]), 0.5)),
    ],
    ids=lambda distribution: type(getattr(distribution, "base_dist", distribution)).__name__,
)  # fmt: skip
def test_sound_distributions_raise_no_alarm(distribution):
    for seed in range(5):
        torch.manual_seed(seed)
        assert distribution_faults(distribution) == []


def test_discrete_distributions_are_compared_by_frequency():
    class Skewed(dist.Categorical):
        def log_prob(self, value):
            return super().log_prob(value) - 0.3 * value

    torch.manual_seed(0)
    assert "more or less often" in distribution_faults(Skewed(torch.ones(3)))[0]
