"""Small fits with every kind of latent, data and inference, for the tests of functions that evaluate a fit."""

import cases
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from cases import D, K, N

import pyro_lfm as lfm
from pyro_lfm import evaluate, plots

CLASSES = 3
# By row.
COVARIATES = {**cases.COVARIATES, "dose": lambda n: torch.linspace(-1, 1, 2 * n).reshape(n, 2)}


class ScalarLatent(lfm.PyroModel):
    """A program whose latent is one number per row: its event shape is ()."""

    def forward(self, batch):
        with batch.plate():
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            x = dist.Normal(torch.stack([z, -z], -1), 0.5).to_event(1)
            pyro.sample("x", x, obs=batch["x"])


class ScalarGuide(lfm.PyroGuide):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.3))

    def forward(self, batch):
        with batch.plate():
            pyro.sample("z", dist.Normal(self.weight * batch["x"].diff(dim=-1)[:, 0], 0.5))


def linear(latent=K, columns=D, **options):
    return lfm.Gaussian(columns, mean=lfm.Linear(), **options)


def one_latent(latent, family, x=None):
    """A model with one latent and x by a network, and a guide of a family."""
    model = lfm.Model(z=latent, x=lfm.Gaussian(D, mean=lfm.MLP(6)) if x is None else x)
    return model, lfm.Guide(model, z=family)


def network(family=lfm.Gaussian, **options):
    return family(network=lfm.MLP(6), **options)


def of(model, **kinds):
    """A model with a guide, Gaussian for latents that are not named."""
    chosen = {
        n: kinds.get(n) or (network() if latent.per_row else lfm.Gaussian())
        for n, latent in model.latents.items()
    }
    return model, lfm.Guide(model, **chosen)


def mixture(covariance=lfm.Diagonal):
    x = lfm.Gaussian(D, mean=lfm.Lookup(), covariance=covariance(lfm.Lookup()), given="c")
    return lfm.Model(c=lfm.Categorical(CLASSES), x=x)


def labelled():
    model = lfm.Model(
        y=lfm.Categorical(CLASSES),
        z=lfm.StandardNormal(2),
        x=lfm.Gaussian(D, mean=lfm.MLP(6), given=("y", "z")),
    )
    return of(model, y=lfm.Categorical(logits=lfm.MLP(6), given="x"), z=network(given=("x", "y")))


def conditional():
    model = lfm.Model(
        dose=lfm.Covariate(2),
        z=lfm.StandardNormal(2),
        x=lfm.Gaussian(D, mean=lfm.MLP(6), given=("z", "dose")),
    )
    return of(model, z=network(given=("x", "dose")))


def views():
    return lfm.Model(
        z=lfm.StandardNormal(2),
        x=lfm.Gaussian(D, mean=lfm.MLP(6)),
        n=lfm.Poisson(2, rate=lfm.MLP(6)),
        y=lfm.Categorical(CLASSES, logits=lfm.MLP(6)),
        o=lfm.OrderedLogistic(2, 3, predictor=lfm.MLP(6)),
    )


def bayesian():
    x = lfm.Gaussian(
        D,
        mean=lfm.Linear(prior=lfm.parameter_priors.ARD(9.0, 9.0)),
        covariance=lfm.Isotropic(prior=lfm.parameter_priors.Gamma(9.0, 9.0)),
    )
    return lfm.Model(z=lfm.StandardNormal(2), x=x)


def bayesian_mixture():
    x = lfm.Gaussian(
        D,
        mean=lfm.Lookup(),
        covariance=lfm.Diagonal(lfm.Lookup()),
        given="c",
        prior=lfm.parameter_priors.NormalGamma(),
    )
    return lfm.Model(c=lfm.Categorical(CLASSES, prior=lfm.parameter_priors.Dirichlet(2.0)), x=x)


# Model and guide, fitted by a few steps of SVI to rows drawn from the model.
BY_SVI = {
    "vector": lambda: of(cases.plain()),
    "one entry": lambda: one_latent(lfm.StandardNormal(1), network()),
    "scalar program": lambda: (ScalarLatent(), ScalarGuide()),
    "matrix": lambda: one_latent(lfm.StandardNormal((2, 2)), network()),
    "labels": lambda: of(mixture(), c=lfm.Categorical(logits=lfm.MLP(6))),
    "codes": lambda: one_latent(lfm.Bernoulli(3), lfm.Bernoulli(logits=lfm.MLP(6))),
    "counts": lambda: one_latent(lfm.Poisson(2), lfm.Poisson(rate=lfm.MLP(6))),
    "positive": lambda: one_latent(cases.PRIORS["gamma"](), network(lfm.LogNormal)),
    "simplex": lambda: one_latent(lfm.Dirichlet(3), network(lfm.LogisticNormal)),
    "two latents": lambda: of(lfm.Model(a=lfm.StandardNormal(2), b=lfm.StandardNormal(1), x=linear())),
    "two layers": lambda: of(cases.two_layers()),
    "labels and factors": lambda: of(
        cases.mixture_of_factor_analysers(lfm.Isotropic()), c=lfm.Categorical(logits=lfm.MLP(6), given="x")
    ),
    "known labels": labelled,
    "covariates": conditional,
    "groups": lambda: of(cases.grouped_rows()),
    "process": lambda: of(cases.gaussian_process()),
    "shared": lambda: of(cases.bayesian_factors()),
    "shared program": lambda: of(cases.SharedScale()),
    "constrained program": lambda: of(cases.GammaDirichlet()),
    "hand-written guide": lambda: (cases.plain(), cases.HandGuide()),
    "per row": lambda: one_latent(lfm.StandardNormal(2), lfm.Gaussian(network=lfm.PerRow())),
    "flow": lambda: one_latent(lfm.FlowPrior(2, layers=2), network(lfm.Flow)),
    "mixture guide": lambda: one_latent(
        lfm.MixtureOfGaussians(2, 2), lfm.MixtureOfGaussians(components=2, network=lfm.MLP(6))
    ),
    "vamp": lambda: one_latent(lfm.VampPrior(2, components=3), network()),
    "heavy tails": lambda: one_latent(
        lfm.StandardNormal(2), network(), cases.Cauchy(D, loc=lfm.Linear(), scale=lfm.Learned(0.5))
    ),
    "picture": lambda: one_latent(
        lfm.StandardNormal(2), network(), lfm.Bernoulli((1, 4, 4), logits=lfm.Convolutional(2))
    ),
    "views": lambda: of(views()),
    "labels seen": lambda: one_latent(
        lfm.StandardNormal(2), network(), lfm.Categorical(CLASSES, logits=lfm.MLP(6))
    ),
    "multinomial": lambda: one_latent(lfm.StandardNormal(2), network(), cases.LIKELIHOODS["multinomial"]()),
}  # fmt: skip

# Model and inference in closed form.
CLOSED = {
    "EM": (lambda: lfm.Model(z=lfm.StandardNormal(2), x=linear()), lambda: lfm.EM(iterations=20)),
    "variational EM": (
        lambda: lfm.Model(z=lfm.StandardNormal(2), x=linear()),
        lambda: lfm.VariationalEM(iterations=20),
    ),
    "EM of a mixture": (mixture, lambda: lfm.EM(iterations=20, restarts=1)),
    "EM of factor analysers": (
        lambda: cases.mixture_of_factor_analysers(lfm.Isotropic()),
        lambda: lfm.EM(iterations=10, restarts=1),
    ),
    "VB": (bayesian, lambda: lfm.VariationalBayes(iterations=20)),
    "VB of a mixture": (bayesian_mixture, lambda: lfm.VariationalBayes(iterations=20)),
}


def rows_from(model, n=N, seed=1):
    """Rows of the observed variables, drawn from the model."""
    given = {name: COVARIATES[name](n) for name in model.covariates}
    # A prior that depends on a guide needs a stand-in before there is one.
    drawn = model.with_stand_ins().sample(n, seed=seed, given=given)
    return {name: drawn[name].float() for name in model.observed}


def fit(model, data, inference):
    return lfm.fit(model, data, inference, seed=0, progress=False)


def svi(guide, **options):
    return lfm.SVI(guide, **{"steps": 4, "batch_size": 8, "engine": "eager", **options})


def by_svi(name):
    torch.manual_seed(0)
    model, guide = BY_SVI[name]()
    model = lfm.inference.fit.as_model(model) if not hasattr(model, "sample") else model
    data = rows_from(model)
    if name != "known labels":
        return fit(model, data, svi(guide)), data
    data["y"] = torch.arange(N).float() % CLASSES
    data["y"][4:] = torch.nan
    return fit(model, data, svi(guide, objective=lfm.Penalised(lfm.ELBO(), lfm.Supervised()))), data


def closed(name):
    torch.manual_seed(0)
    model, inference = CLOSED[name]
    model = model()
    x = torch.randn(N, D, generator=torch.Generator().manual_seed(3))
    return fit(model, {"x": x}, inference()), {"x": x}


def missing():
    torch.manual_seed(0)
    model, guide = of(views())
    data = rows_from(model)
    for each in data.values():
        each[torch.rand(each.shape, generator=torch.Generator().manual_seed(2)) < 0.3] = torch.nan
    return fit(model, data, svi(guide)), data


def constant_columns():
    torch.manual_seed(0)
    model, guide = of(lfm.Model(z=lfm.StandardNormal(2), x=linear()))
    data = rows_from(model)
    data["x"][:, 0] = 1.0
    return fit(model, data, svi(guide)), data


def table():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "length": rng.normal(size=40),
            "count": rng.poisson(4.0, 40),
            "kind": rng.choice(["a", "b", "c"], 40),
            "yes": rng.random(40) < 0.5,
        }
    ).mask(rng.random((40, 4)) < 0.1)
    columns = lfm.heterogeneous(frame)
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(2), **columns)
    guide = lfm.Guide(model, z=network())
    return fit(model, columns.data, svi(guide)), columns.data


def few_rows(count):
    torch.manual_seed(0)
    model, guide = of(lfm.Model(z=lfm.StandardNormal(2), x=linear()))
    data = rows_from(model, count)
    return fit(model, data, svi(guide, steps=2)), data


def refined():
    torch.manual_seed(0)
    model, guide = of(cases.plain())
    data = rows_from(model)
    done = fit(model, data, svi(guide))
    return fit(model, data, svi(lfm.Refined(done.guide, steps=3), steps=1)), data


def without_latents(x):
    torch.manual_seed(0)
    model = lfm.Model(x=x)
    rows = torch.randn(N, D, generator=torch.Generator().manual_seed(3))
    return fit(model, {"x": rows}, lfm.EM()), {"x": rows}


def rows_without_entries():
    """Three rows without any observed entry, the first two among them."""
    done, data = missing()
    data = {name: value.clone() for name, value in data.items()}
    for value in data.values():
        value[:2], value[5] = torch.nan, torch.nan
    return done, data


def empty_rows_in_closed_form(name):
    done, data = closed(name)
    data = {"x": data["x"].clone()}
    data["x"][:2], data["x"][5] = torch.nan, torch.nan
    return done, data


MORE = {
    "no latents": lambda: without_latents(lfm.Gaussian(D, covariance=lfm.Full())),
    "rows without entries": rows_without_entries,
    "EM, rows without entries": lambda: empty_rows_in_closed_form("EM"),
    "EM of a mixture, rows without entries": lambda: empty_rows_in_closed_form("EM of a mixture"),
    "VB, rows without entries": lambda: empty_rows_in_closed_form("VB"),
    "missing entries": missing,
    "constant columns": constant_columns,
    "table": table,
    "fitted to one row": lambda: few_rows(1),
    "fitted to two rows": lambda: few_rows(2),
    "refined": refined,
}

CASES = [*BY_SVI, *CLOSED, *MORE]


def make(name):
    """The fit of a case, and its rows by name."""
    if name in BY_SVI:
        return by_svi(name)
    return closed(name) if name in CLOSED else MORE[name]()


# Right arguments of the functions of arrays, of tests' results and of pictures; the fits above are for the others.
ARGUMENTS = {
    evaluate.representation.dci: lambda: (torch.rand(3, 2),),
    evaluate.calibration.pareto_k: lambda: (torch.randn(200),),
    evaluate.calibration.pareto_smooth: lambda: (torch.randn(200),),
    plots.colours: lambda: (["mean-field", "full"],),
    plots.region_coverage: lambda: (evaluate.calibration.expected_coverage(torch.randn(20), torch.randn(9, 20)),),
    plots.gallery: lambda: (torch.rand(6, 4, 4),),
    plots.posterior_ellipses: lambda: (
        {"full": (torch.distributions.MultivariateNormal(torch.zeros(3, 2), torch.eye(2)),) * 2},
    ),
    plots.predictive_check: lambda: (evaluate.calibration.predictive_check(torch.randn(3), torch.randn(20, 3)),),
    plots.prior_draws: lambda: (torch.rand(6, 4, 4),),
    plots.rank_curves: lambda: (
        evaluate.calibration.simulation_based_calibration(torch.randn(20, 2), torch.randn(9, 20, 2)),
    ),
    plots.symmetry_curves: lambda: (
        evaluate.calibration.variational_calibration(torch.randn(20, 2), torch.randn(9, 20, 2)),
    ),
    plots.two_sample: lambda: (
        evaluate.calibration.classifier_two_sample(torch.randn(40, 2), torch.randn(9, 40, 2)),
    ),
}  # fmt: skip
