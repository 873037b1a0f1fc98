"""Constructors of every part, by name. A new part gets one line here, and every contract test runs over it.

Sizes are small: latents have K = 3 entries, observed rows D = 4 entries, and data N = 12 rows.
``tests/contracts/test_every_part.py`` fails where an exported part has no case.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import nn

import pyro_lfm as lfm

N, D, K = 12, 4, 3


# Parts as a user would write them, from public names alone ---------------------------------------------


class Laplace(lfm.Prior):
    """A prior with a distribution of its own."""

    def __init__(self, dim, scale=1.0):
        super().__init__(dim)
        self.scale = scale

    def forward(self):
        return dist.Laplace(torch.zeros(self.dim), self.scale).to_event(1)


class TwoHumps(lfm.Prior):
    """A mixture, by Pyro's own distribution for it, with a parameter of its own."""

    def __init__(self, dim):
        super().__init__(dim)
        self.loc = nn.Parameter(torch.tensor([[-2.0], [2.0]]).repeat(1, dim))

    def forward(self):
        components = dist.Normal(self.loc, 1.0).to_event(1)
        return dist.MixtureSameFamily(dist.Categorical(torch.ones_like(self.loc[:, 0])), components)


class UnitInterval(lfm.Prior):
    def forward(self):
        return dist.Beta(torch.full((self.dim,), 2.0), torch.full((self.dim,), 3.0)).to_event(1)


class Cauchy(lfm.Factor):
    """A likelihood with a distribution of its own: each parameter from any source."""

    constraints = {"scale": constraints.positive}

    def __init__(self, event=None, loc=None, scale=None, *, given=None, network=None):
        super().__init__(event, {"loc": loc, "scale": scale}, given=given, network=network)

    def distribution(self, loc, scale):
        return dist.Cauchy(loc, scale).to_event(1)


class HandDrawn(lfm.Factor):
    """A likelihood that writes ``forward(*parents)`` itself, and so owns its network."""

    def __init__(self, event, latent):
        super().__init__(event)
        self.net = nn.Linear(latent, event)

    def forward(self, z):
        return dist.Laplace(self.net(z), 0.5).to_event(1)


class StudentTGuide(lfm.Factor):
    """A guide family with a distribution of its own."""

    constraints = {"scale": constraints.softplus_positive}

    def __init__(self, event=None, loc=None, scale=None, *, given=None, network=None):
        super().__init__(event, {"loc": loc, "scale": scale}, given=given, network=network)

    def distribution(self, loc, scale):
        return dist.StudentT(6.0, loc, scale).to_event(1)


class Residual(nn.Module):
    """A network of one's own, as a factory (in_size, out_size) -> module."""

    def __init__(self, in_size, out_size):
        super().__init__()
        self.skip, self.hidden, self.out = (
            nn.Linear(in_size, out_size),
            nn.Linear(in_size, 8),
            nn.Linear(8, out_size),
        )

    def forward(self, context):
        return self.skip(context) + self.out(self.hidden(context).tanh())


class GammaDirichlet(lfm.PyroModel):
    """A program by hand: rates r > 0 and weights w on the simplex, D counts."""

    def __init__(self):
        super().__init__()
        self.loading = nn.Parameter(0.3 * torch.randn(K, D, generator=torch.Generator().manual_seed(5)))

    def forward(self, batch):
        with batch.plate():
            r = pyro.sample("r", dist.Gamma(torch.full((2,), 2.0), torch.ones(2)).to_event(1))
            w = pyro.sample("w", dist.Dirichlet(torch.full((K,), 2.0)))
            rate = (w @ self.loading.exp()) * r.sum(-1, keepdim=True)
            pyro.sample("x", dist.Poisson(rate).to_event(1), obs=batch["x"])


class SharedScale(lfm.PyroModel):
    """A program with a latent outside the plate, shared by all rows, and one for each row."""

    def forward(self, batch):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 0.5))
        with batch.plate():
            z = pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1))
            x, mask = batch["x"], batch.mask("x")
            distribution = dist.Normal(z, scale[..., None] if scale.dim() else scale)
            distribution = distribution.mask(True if mask is None else mask).to_event(1)
            pyro.sample("x", distribution, obs=x)


class HandGuide(lfm.PyroGuide):
    """A guide by hand for one latent z of K entries, given x of D."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(D, 2 * K)

    def forward(self, batch):
        with batch.plate():
            loc, raw = self.net(batch["x"]).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, nn.functional.softplus(raw) + 1e-3).to_event(1))


# The cases ----------------------------------------------------------------------------------------------

NETWORKS = {
    "mlp": lambda: lfm.MLP(6, activation="tanh"),
    "deep-mlp": lambda: lfm.MLP(6, 6, activation="silu", dropout=0.1),
    "linear": lambda: lfm.Linear(),
    "own-factory": lambda: Residual,
}

COVARIANCES = {
    "isotropic": lfm.Isotropic,
    "diagonal": lfm.Diagonal,
    "low-rank": lambda source=None, **options: lfm.LowRank(2, source, **options),
    "full": lfm.Full,
}

PRIORS = {
    "standard-normal": lambda: lfm.StandardNormal(K),
    "learned-gaussian": lambda: lfm.Gaussian(K),
    "learned-full-gaussian": lambda: lfm.Gaussian(K, covariance=lfm.Full()),
    "low-rank-gaussian": lambda: lfm.Gaussian(K, mean=lfm.Fixed(0.5), covariance=lfm.LowRank(1)),
    "own-laplace": lambda: Laplace(K),
    "two-humps": lambda: TwoHumps(K),
    "unit-interval": lambda: UnitInterval(K),
    "laplace": lambda: lfm.Laplace(K),
    "student-t": lambda: lfm.StudentT(K),
    "mixture-of-gaussians": lambda: lfm.MixtureOfGaussians(K, 2),
    "gamma": lambda: lfm.Gamma(K, concentration=lfm.Learned(2.0)),
    "log-normal": lambda: lfm.LogNormal(K),
    "dirichlet": lambda: lfm.Dirichlet(K),
    "flow": lambda: lfm.FlowPrior(K, layers=2),
    "vamp": lambda: lfm.VampPrior(K, components=3),
    "logistic-normal": lambda: lfm.LogisticNormal(K, covariance=lfm.Full()),
    "exemplar": lambda: lfm.ExemplarPrior(K, exemplars=8, neighbours=3),
}

LIKELIHOODS = {
    **{
        f"gaussian-{name}": lambda c=c: lfm.Gaussian(D, mean=lfm.MLP(6), covariance=c(lfm.MLP(6)))
        for name, c in COVARIANCES.items()
    },
    "gaussian-shared-network": lambda: lfm.Gaussian(D, covariance=lfm.Full(), network=lfm.MLP(6)),
    "gaussian-learned-noise": lambda: lfm.Gaussian(D, mean=lfm.Linear()),
    "gaussian-own-network": lambda: lfm.Gaussian(D, mean=Residual, covariance=lfm.Isotropic()),
    "gaussian-with-priors": lambda: lfm.Gaussian(
        D,
        mean=lfm.Linear(prior=lfm.parameter_priors.ARD(9.0, 9.0), bias=lfm.parameter_priors.Normal()),
        covariance=lfm.Diagonal(prior=lfm.parameter_priors.Gamma(9.0, 9.0)),
    ),
    "gaussian-matrix": lambda: lfm.Gaussian((2, 2), mean=lfm.MLP(6), covariance=lfm.Full(lfm.Linear())),
    "gaussian-image": lambda: lfm.Gaussian((1, 4, 4), mean=lfm.Convolutional(2, 3)),
    "bernoulli": lambda: lfm.Bernoulli(D, logits=lfm.MLP(6)),
    "poisson": lambda: lfm.Poisson(D, rate=lfm.MLP(6)),
    "categorical": lambda: lfm.Categorical(D, logits=lfm.MLP(6)),
    "poisson-exposure": lambda: lfm.Poisson(D, rate=lfm.MLP(6), exposure="library"),
    "binomial": lambda: lfm.Binomial(D, total_count=5, logits=lfm.MLP(6)),
    "binomial-observed-total": lambda: lfm.Binomial(D, total_count="library", logits=lfm.MLP(6)),
    "multinomial": lambda: lfm.Multinomial(D, total_count=5, logits=lfm.MLP(6)),
    "multinomial-observed-total": lambda: lfm.Multinomial(D, total_count="library", logits=lfm.MLP(6)),
    "negative-binomial": lambda: lfm.NegativeBinomial(D, logits=lfm.MLP(6), exposure="library"),
    "zero-inflated-poisson": lambda: lfm.ZeroInflatedPoisson(D, network=lfm.MLP(6)),
    "zero-inflated-negative-binomial": lambda: lfm.ZeroInflatedNegativeBinomial(
        D, network=lfm.MLP(6), exposure="library"
    ),
    "ordered-logistic": lambda: lfm.OrderedLogistic(D, 4, predictor=lfm.MLP(6)),
    "student-t": lambda: lfm.StudentT(D, network=lfm.MLP(6)),
    "laplace": lambda: lfm.Laplace(D, loc=lfm.MLP(6)),
    "mixture-of-gaussians": lambda: lfm.MixtureOfGaussians(D, 2, network=lfm.MLP(6)),
    "gamma": lambda: lfm.Gamma(D, network=lfm.MLP(6)),
    "log-normal": lambda: lfm.LogNormal(D, loc=lfm.MLP(6)),
    "beta": lambda: lfm.Beta(D, network=lfm.MLP(6)),
    "continuous-bernoulli": lambda: lfm.ContinuousBernoulli(D, logits=lfm.MLP(6)),
    "dirichlet": lambda: lfm.Dirichlet(D, concentration=lfm.MLP(6)),
    "discretized-logistic": lambda: lfm.DiscretizedLogistic(D, loc=lfm.MLP(6), levels=8),
    "discretized-logistic-mixture": lambda: lfm.DiscretizedLogisticMixture(
        D, 2, network=lfm.MLP(6), low=-1.0, levels=5
    ),
    "cauchy": lambda: Cauchy(D, loc=lfm.Linear(), scale=lfm.Learned(0.05)),
    "hand-drawn": lambda: HandDrawn(D, K),
}

GUIDES = {
    **{f"gaussian-{n}": lambda c=c: lfm.Gaussian(covariance=c(), network=lfm.MLP(6)) for n, c in COVARIANCES.items()},
    "separate-sources": lambda: lfm.Gaussian(mean=lfm.Linear(), covariance=lfm.Full(lfm.MLP(6))),
    "shared-covariance": lambda: lfm.Gaussian(mean=lfm.MLP(6), covariance=lfm.Full()),
    "per-row": lambda: lfm.Gaussian(network=lfm.PerRow()),
    "per-row-full": lambda: lfm.Gaussian(mean=lfm.PerRow(), covariance=lfm.Full(lfm.PerRow())),
    "per-row-mean": lambda: lfm.Gaussian(mean=lfm.PerRow(), covariance=lfm.Diagonal(lfm.MLP(6))),
    "student-t": lambda: StudentTGuide(network=lfm.MLP(6)),
    "flow": lambda: lfm.Flow(network=lfm.MLP(6)),
    "spline-flow": lambda: lfm.Flow(flow=lfm.NeuralSpline(bins=4), network=lfm.MLP(6)),
    "mixture-of-gaussians": lambda: lfm.MixtureOfGaussians(components=3, network=lfm.MLP(6)),
    "product-of-experts": lambda: lfm.ProductOfExperts(network=lfm.MLP(6)),
}  # fmt: skip

FLOWS = {
    "inverse-autoregressive": lambda: lfm.InverseAutoregressive(),
    "one-layer": lambda: lfm.InverseAutoregressive(layers=1, hidden=8),
    "neural-spline": lambda: lfm.NeuralSpline(),
    "one-spline": lambda: lfm.NeuralSpline(layers=1, hidden=8, bins=4),
    "zuko": lambda: lfm.Zuko("NSF", {"transforms": 2}),
}

OBJECTIVES = {
    "elbo": lambda: lfm.ELBO(),
    "particles": lambda: lfm.ELBO(particles=3),
    "monte-carlo": lambda: lfm.ELBO(kl="monte-carlo"),
    "beta": lambda: lfm.ELBO(kl_weight=0.5),
    "annealed": lambda: lfm.ELBO(kl_weight=lambda fraction: min(1.0, 2 * fraction)),
    "free-bits": lambda: lfm.ELBO(free_bits=0.1),
    "sticking-the-landing": lambda: lfm.ELBO(gradient="sticking-the-landing"),
    "sticking-the-landing-particles": lambda: lfm.ELBO(gradient="sticking-the-landing", particles=2),
    "importance-weighted": lambda: lfm.ImportanceWeightedELBO(particles=3),
    "importance-weighted-one": lambda: lfm.ImportanceWeightedELBO(particles=1, gradient="doubly-reparametrized"),
    "importance-weighted-landing": lambda: lfm.ImportanceWeightedELBO(3, gradient="sticking-the-landing"),
    "importance-weighted-doubly": lambda: lfm.ImportanceWeightedELBO(3, gradient="doubly-reparametrized"),
    "importance-weighted-drawn": lambda: lfm.ImportanceWeightedELBO(3, enumerate="never"),
    "renyi": lambda: lfm.RenyiELBO(alpha=0.5, particles=3),
    "renyi-above-one": lambda: lfm.RenyiELBO(alpha=2.0, particles=3),
    "wake-sleep": lambda: lfm.ReweightedWakeSleep(particles=3),
    "total-correlation": lambda: lfm.Penalised(lfm.ELBO(), lfm.TotalCorrelation(weight=5.0)),
    "info-vae": lambda: lfm.Penalised(lfm.ELBO(kl_weight=0.1), lfm.MaximumMeanDiscrepancy(weight=10.0)),
    "penalised-importance": lambda: lfm.Penalised(
        lfm.ImportanceWeightedELBO(3), lfm.TotalCorrelation(weight=lfm.schedules.linear()), lfm.MaximumMeanDiscrepancy()
    ),
    "cyclical": lambda: lfm.ELBO(kl_weight=lfm.schedules.cyclical(cycles=2)),
    "pyro-trace-elbo": lambda: pyro.infer.Trace_ELBO(),
    "pyro-vectorized": lambda: pyro.infer.Trace_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=1),
    "pyro-mean-field": lambda: pyro.infer.TraceMeanField_ELBO(),
}  # fmt: skip

# A factor whose parameters have that prior. One that reads c stands in a mixture.
PARAMETER_PRIORS = {
    "normal": lambda: lfm.Gaussian(
        D, mean=lfm.Linear(prior=lfm.parameter_priors.Normal(), bias=lfm.parameter_priors.Normal())
    ),
    "ard": lambda: lfm.Gaussian(D, mean=lfm.Linear(prior=lfm.parameter_priors.ARD(9.0, 9.0))),
    "horseshoe": lambda: lfm.Gaussian(D, mean=lfm.Linear(prior=lfm.parameter_priors.Horseshoe())),
    "gamma": lambda: lfm.Gaussian(
        D, mean=lfm.Linear(), covariance=lfm.Diagonal(prior=lfm.parameter_priors.Gamma(9.0, 9.0))
    ),
    "beta": lambda: lfm.Bernoulli(D, logits=lfm.Lookup(prior=lfm.parameter_priors.Beta(2.0, 2.0)), given="c"),
    "normal-gamma": lambda: lfm.Gaussian(
        D,
        mean=lfm.Lookup(),
        covariance=lfm.Diagonal(lfm.Lookup()),
        given="c",
        prior=lfm.parameter_priors.NormalGamma(),
    ),
    "normal-wishart": lambda: lfm.Gaussian(
        D,
        mean=lfm.Lookup(),
        covariance=lfm.Full(lfm.Lookup()),
        given="c",
        prior=lfm.parameter_priors.NormalWishart(),
    ),
}

SCHEDULES = {
    "linear": lambda: lfm.schedules.linear(start=0.5, end=2.0),
    "cosine": lambda: lfm.schedules.cosine(start=0.5, end=2.0),
    "cyclical": lambda: lfm.schedules.cyclical(cycles=3, start=0.5, end=2.0),
}

# Pictures in [0, 1], one per row.
DATA_SETS = {
    "digits": lambda: lfm.data.digits().x,
    "faces": lambda: lfm.data.faces(6).x,
    "draw-faces": lambda: lfm.data.draw_faces(mouth=torch.linspace(-1, 1, 6)),
    "sprites": lambda: lfm.data.sprites(6).x,
    "draw-sprites": lambda: lfm.data.draw_sprites("ellipse", rotation=torch.linspace(0, 3, 6)),
    "from-torchvision": lambda: (
        lfm.data.from_torchvision(
            lfm.data.import_torchvision().datasets.FakeData(size=6, image_size=(1, 4, 4))
        ).x
    ),
}

# Priors made of the guide's distribution need one that is computed from rows.
NEED_AN_ENCODER = {"vamp", "exemplar"}
ENCODES_NOTHING = {"per-row", "per-row-full", "per-row-mean"}
# Exemplars stand for the means of their posteriors.
NEED_A_MEAN, WITHOUT_A_MEAN = {"exemplar"}, {"flow", "spline-flow"}


def refuses(prior, guide):
    without_encoder = prior in NEED_AN_ENCODER and guide in ENCODES_NOTHING
    return without_encoder or (prior in NEED_A_MEAN and guide in WITHOUT_A_MEAN)


def triples():
    """Triples that hold every pair of parts: all priors with all likelihoods, and the guides in turn."""
    # Every row and every column of this square holds every guide, if it is as long as the list of guides.
    guides = list(GUIDES)
    assert len(guides) <= min(len(PRIORS), len(LIKELIHOODS))
    return [
        (prior, likelihood, guides[(i + j) % len(guides)])
        for i, prior in enumerate(PRIORS)
        for j, likelihood in enumerate(LIKELIHOODS)
    ]


# Structures that an objective refuses, {objective: {structure: the text of the error, a pattern}}.
REFUSALS = {
    "wake-sleep": {
        "bayesian-factors": "x.weight",
        "gaussian-process": "z.inducing",
        "grouped-rows": "g.groups",
        "latent-mixture": "c.probs",
        "shared-scale": "scale",
    },
    "total-correlation": {"gamma-dirichlet": "w is Pushforward"},
    "penalised-importance": {"gamma-dirichlet": "w is Pushforward"},
}


def plain():
    return lfm.Model(z=lfm.StandardNormal(K), x=lfm.Gaussian(D, mean=lfm.MLP(6)))


def two_layers():
    return lfm.Model(
        z2=lfm.StandardNormal(2),
        z1=lfm.Gaussian(K, mean=lfm.MLP(6), covariance=lfm.Diagonal(lfm.MLP(6)), given="z2"),
        x=lfm.Gaussian(D, mean=lfm.MLP(6), given="z1"),
    )


def three_layers():
    return lfm.Model(
        z3=Laplace(2),
        z2=lfm.Gaussian(2, network=lfm.MLP(6), given="z3"),
        z1=lfm.Gaussian(K, covariance=lfm.Full(), network=lfm.MLP(6), given="z2"),
        x=lfm.Bernoulli(D, logits=lfm.MLP(6), given="z1"),
    )


def two_views():
    return lfm.Model(
        z=lfm.StandardNormal(K),
        x=lfm.Gaussian(D, mean=lfm.MLP(6)),
        y=lfm.Poisson(2, rate=lfm.MLP(6)),
    )


def two_layers_two_views():
    return lfm.Model(
        top=lfm.StandardNormal(2),
        z=lfm.Gaussian(K, network=lfm.MLP(6), given="top"),
        x=lfm.Gaussian(D, mean=lfm.MLP(6), given="z"),
        label=lfm.Categorical(3, logits=lfm.MLP(6), given=("top", "z")),
    )


def bayesian_factors():
    """Priors on all parameters: latents outside the plate that are the weights of the likelihood."""
    return lfm.Model(
        z=lfm.StandardNormal(K),
        x=lfm.Gaussian(
            D,
            mean=lfm.Linear(prior=lfm.parameter_priors.ARD(9.0, 9.0), bias=lfm.parameter_priors.Normal()),
            covariance=lfm.Isotropic(prior=lfm.parameter_priors.Gamma(9.0, 9.0)),
        ),
    )


def latent_mixture():
    """A label that is summed out, components with a prior, and a likelihood by a network."""
    return lfm.Model(
        c=lfm.Categorical(2, prior=lfm.parameter_priors.Dirichlet(2.0)),
        z=lfm.Gaussian(
            K,
            mean=lfm.Lookup(),
            covariance=lfm.Full(lfm.Lookup()),
            given="c",
            prior=lfm.parameter_priors.NormalWishart(degrees=K + 4),
        ),
        x=lfm.Gaussian(D, mean=lfm.MLP(6), given="z"),
    )


def gaussian_process():
    """Rows at times t: inducing values outside the plate, and the process given their values."""
    z = lfm.GaussianProcess(
        K, inducing=torch.linspace(0.0, 3.0, 4), kernel=lfm.SquaredExponential(), given="t"
    )
    return lfm.Model(t=lfm.Covariate(), z=z, x=lfm.Gaussian(D, mean=lfm.MLP(6), given="z"))


def grouped_rows():
    """Rows in three groups: a latent of the group, a latent of the row given it, and a likelihood that reads both."""
    return lfm.Model(
        site=lfm.Covariate(support=constraints.integer_interval(0, 2)),
        g=lfm.PerGroup(lfm.Gaussian(2), given="site"),
        z=lfm.Gaussian(K, network=lfm.MLP(6), given="g"),
        x=lfm.Gaussian(D, mean=lfm.MLP(6), given=("g", "z")),
    )


MODELS = {
    "gaussian-process": gaussian_process,
    "grouped-rows": grouped_rows,
    "bayesian-factors": bayesian_factors,
    "latent-mixture": latent_mixture,
    "plain": plain,
    "two-layers": two_layers,
    "three-layers": three_layers,
    "two-views": two_views,
    "two-layers-two-views": two_layers_two_views,
    "gamma-dirichlet": GammaDirichlet,
    "shared-scale": SharedScale,
}


def with_parameter_prior(name):
    """A model whose likelihood has that prior on its parameters; of a mixture, also one on the probabilities."""
    x = PARAMETER_PRIORS[name]()
    if x.given == ("c",):
        return lfm.Model(c=lfm.Categorical(2, prior=lfm.parameter_priors.Dirichlet(2.0)), x=x)
    return lfm.Model(z=lfm.StandardNormal(K), x=x)


def mixture(likelihood):
    return lfm.Model(c=lfm.Categorical(3), x=likelihood)


def mixture_of_factor_analysers(covariance):
    x = lfm.Gaussian(D, mean=lfm.Lookup(lfm.Linear()), covariance=covariance, given=("c", "z"))
    return lfm.Model(c=lfm.Categorical(2), z=lfm.StandardNormal(K), x=x)


# Declarations whose posterior has a closed form.
CLOSED_FORMS = {
    "probabilistic-pca": lambda: lfm.Model(
        z=lfm.StandardNormal(K), x=lfm.Gaussian(D, mean=lfm.Linear(), covariance=lfm.Isotropic())
    ),
    "factor-analysis": lambda: lfm.Model(z=lfm.StandardNormal(K), x=lfm.Gaussian(D, mean=lfm.Linear())),
    "full-noise": lambda: lfm.Model(
        z=lfm.Gaussian(K, mean=lfm.Fixed(0.5), covariance=lfm.Full(lfm.Fixed(torch.eye(K) + 0.5))),
        x=lfm.Gaussian(D, mean=lfm.Linear(), covariance=lfm.Full(lfm.Fixed(torch.eye(D) + 0.5))),
    ),
    "matrix-events": lambda: lfm.Model(
        z=lfm.StandardNormal((K, 1)), x=lfm.Gaussian((2, 2), mean=lfm.Linear())
    ),
    **{
        f"mixture-{name}": lambda c=c: mixture(
            lfm.Gaussian(D, mean=lfm.Lookup(), covariance=c(lfm.Lookup()), given="c")
        )
        for name, c in COVARIANCES.items()
        if name != "low-rank"
    },
    "mixture-shared": lambda: mixture(lfm.Gaussian(D, mean=lfm.Lookup(), covariance=lfm.Full(), given="c")),
    "mixture-images": lambda: mixture(lfm.Gaussian((2, 2), mean=lfm.Lookup(), given="c")),
    "mixture-bernoulli": lambda: mixture(lfm.Bernoulli(D, logits=lfm.Lookup(), given="c")),
    "factor-analysers": lambda: mixture_of_factor_analysers(lfm.Diagonal(lfm.Lookup())),
    "factor-analysers-shared": lambda: mixture_of_factor_analysers(lfm.Isotropic()),
}


# Guides that are computed from the model, and the closed forms that each serves.
EXACT_GUIDES = {
    "exact": (lfm.ExactPosterior, list(CLOSED_FORMS)),
    "factorised": (
        lfm.FactorisedPosterior,
        ["probabilistic-pca", "factor-analysis", "full-noise", "matrix-events"],
    ),
}


def guide_for(model, factor):
    """``factor()`` for each latent of a row, but a Categorical for labels; a learned Gaussian for shared latents."""

    def kind(latent):
        if latent.categories:
            return lfm.Categorical(logits=lfm.MLP(6))
        return factor() if latent.per_row else lfm.Gaussian()

    return lfm.Guide(model, **{name: kind(latent) for name, latent in model.latents.items()})


# Structures in which the prior of a latent of the row has parents.
MESSAGES = ("gaussian-process", "grouped-rows", "two-layers", "two-layers-two-views")


def message_guide(model):
    """A GaussianMessage for each latent of a row whose prior has parents, a Gaussian for the others."""

    def kind(name, latent):
        if latent.per_row and model.given[name]:
            return lfm.GaussianMessage(network=lfm.MLP(6), given="x")
        return lfm.Gaussian(covariance=lfm.Full(), **({"network": lfm.MLP(6)} if latent.per_row else {}))

    return lfm.Guide(model, **{name: kind(name, latent) for name, latent in model.latents.items()})


def is_continuous(model):
    return not any(latent.support.is_discrete for latent in model.latents.values())


def one_latent(prior="standard-normal", likelihood="gaussian-learned-noise"):
    """A model of one latent and one observed factor, with the covariates that the factor names."""
    x = LIKELIHOODS[likelihood]()
    covariates = {
        name: lfm.Covariate(value=3.0, support=constraints.positive_integer) for name in x.named.values()
    }
    return lfm.Model(z=PRIORS[prior](), x=x, **covariates)


# The values (n, ...) of covariates by name; the others have their declared value in all rows.
COVARIATES = {
    "t": lambda n: torch.linspace(0.0, 3.0, n),
    "site": lambda n: torch.arange(n) % 3,
}


def rows_of(model, n=N, seed=0):
    """Data drawn from the model itself."""
    given = {name: COVARIATES[name](n) for name in model.covariates if name in COVARIATES}
    # A prior made of the guide has no distribution yet: a stand-in takes its place.
    drawn = model.with_stand_ins().sample(n, seed=seed, given=given)
    return {name: drawn[name] for name in model.observed}


# When the state of a fit is written, as functions of the folder.
CHECKPOINTS = {
    "each epoch": lambda path: lfm.Checkpoint(path),
    "each second epoch": lambda path: lfm.Checkpoint(path, epochs=2),
    "at the end": lambda path: lfm.Checkpoint(path, epochs=9),
    "by time": lambda path: lfm.Checkpoint(path, epochs=None, seconds=1e9),
    "by both": lambda path: lfm.Checkpoint(path, epochs=2, seconds=1e9),
}
