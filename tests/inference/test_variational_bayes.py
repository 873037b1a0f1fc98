"""Variational Bayes on declarations: its bound, its posterior, and the declarations that it refuses."""

import itertools

import pytest
import torch

import pyro_lfm as lfm

D = 6


def factors(latent=4, covariance=lfm.Isotropic, prior=1e-2):
    return lfm.Model(
        z=lfm.StandardNormal(latent),
        x=lfm.Gaussian(
            D,
            mean=lfm.Linear(prior=lfm.parameter_priors.ARD(prior, prior)),
            covariance=covariance(prior=lfm.parameter_priors.Gamma(prior, prior)),
        ),
    ).double()


def mixture(family, classes=3, dim=D, concentration=0.5):
    x = {
        "full": lambda: lfm.Gaussian(
            dim,
            mean=lfm.Lookup(),
            covariance=lfm.Full(lfm.Lookup()),
            given="c",
            prior=lfm.parameter_priors.NormalWishart(),
        ),
        "diagonal": lambda: lfm.Gaussian(
            dim,
            mean=lfm.Lookup(),
            covariance=lfm.Diagonal(lfm.Lookup()),
            given="c",
            prior=lfm.parameter_priors.NormalGamma(),
        ),
        "bernoulli": lambda: lfm.Bernoulli(
            dim, logits=lfm.Lookup(prior=lfm.parameter_priors.Beta()), given="c"
        ),
    }[family]()
    return lfm.Model(
        c=lfm.Categorical(classes, prior=lfm.parameter_priors.Dirichlet(concentration)), x=x
    ).double()


MODELS = {
    "isotropic factors": factors,
    "diagonal factors": lambda: factors(covariance=lfm.Diagonal),
    "full mixture": lambda: mixture("full"),
    "diagonal mixture": lambda: mixture("diagonal"),
    "bernoulli mixture": lambda: mixture("bernoulli"),
}


def rows(seed, n=80, rank=2):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, rank, generator=g) @ torch.randn(rank, D, generator=g)
    return (x + 0.3 * torch.randn(n, D, generator=g)).double()


def data_for(name, seed=0, missing=False):
    x = rows(seed)
    x = (x > 0).double() if "bernoulli" in name else x
    if missing:
        g = torch.Generator().manual_seed(seed)
        x[torch.rand(x.shape, generator=g) < 0.2] = float("nan")
    return x


def sampled_bound(fit, x, draws=20):
    """The bound by the model and guide as Pyro programs, and its standard error."""
    batch = lfm.Batch({"x": x})
    objective = lfm.ELBO(particles=50)
    with torch.no_grad():
        bounds = torch.stack(
            [objective.bound(fit.model, fit.guide, batch).per_row.mean() for _ in range(draws)]
        )
    return bounds.mean(), bounds.std() / draws**0.5


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_the_bound_never_falls_and_is_that_of_the_declaration(name, missing):
    """Constants included: Pyro's programs, model and guide, have the same bound within five standard errors."""
    torch.manual_seed(0)
    x = data_for(name, missing=missing)
    fit = lfm.fit(MODELS[name](), x, lfm.VariationalBayes(), seed=0)
    bounds = [record["bound"] for record in fit.history]
    assert len(bounds) > 2
    assert all(new >= old - 1e-9 for old, new in itertools.pairwise(bounds))
    mean, error = sampled_bound(fit, x)
    if name == "full mixture" and missing:
        # There q holds the missing entries too; the program integrates them out, which can only gain.
        assert mean > bounds[-1] - 5 * error
    else:
        assert abs(mean - bounds[-1]) < 5 * error


@pytest.mark.parametrize("name", MODELS)
def test_the_posterior_of_old_and_new_rows(name):
    model, x = MODELS[name](), data_for(name)
    fit = lfm.fit(model, x, lfm.VariationalBayes(iterations=20), seed=0)
    assert fit.model is model
    for data, n in ((None, len(x)), (x[:3], 3)):
        distributions = fit.posterior(data)
        assert list(distributions) == list(model.latents)
        for name, latent in model.latents.items():
            assert distributions[name].batch_shape == ((n,) if latent.per_row else ())
            assert distributions[name].event_shape == latent.shape
            assert latent.support.check(distributions[name].sample()).all()
    for name, part in model.drawn.items():
        assert torch.allclose(part.value, distributions[name].mean)
    assert fit.reconstruct(x[:3]).shape == (3, D)
    drawn = fit.sample_posterior(x[:3], draws=2)
    assert drawn[next(iter(model.drawn))].shape[0] == 2
    text = lfm.describe(model, fit.guide)
    assert "a Pyro program" in text


@pytest.mark.parametrize("covariance", [lfm.Isotropic, lfm.Diagonal])
@pytest.mark.parametrize("seed", range(5))
def test_ard_finds_the_true_rank(seed, covariance):
    g = torch.Generator().manual_seed(seed)
    rank = 1 + seed % 3
    loading = torch.linalg.qr(torch.randn(D, rank, generator=g))[0] * torch.linspace(2.0, 3.0, rank)
    x = torch.randn(200, rank, generator=g) @ loading.T + 0.3 * torch.randn(200, D, generator=g)
    fit = lfm.fit(factors(D - 1, covariance, 1e-3), x, lfm.VariationalBayes(), seed=seed)
    assert fit.rank == rank
    assert fit.posterior()["x.weight"].mean.square().sum(0).gt(0.1).sum() == rank


def exact_evidence(x, classes, concentration):
    """ln p(x) of a mixture of Bernoullis with Beta(1, 1) and Dirichlet priors: a sum over all labels of all rows."""
    total = []
    alpha = torch.full((classes,), concentration, dtype=torch.float64)
    for labels in itertools.product(range(classes), repeat=len(x)):
        member = torch.nn.functional.one_hot(torch.tensor(labels), classes).double()
        counts, ones = member.sum(0), member.T @ x
        zeros = counts[:, None] - ones
        value = alpha.sum().lgamma() - (alpha.sum() + len(x)).lgamma()
        value = value + ((alpha + counts).lgamma() - alpha.lgamma()).sum()
        value = value + ((1 + ones).lgamma() + (1 + zeros).lgamma() - (2 + ones + zeros).lgamma()).sum()
        total.append(value)
    return torch.stack(total).logsumexp(0)


def test_svi_comes_near_variational_bayes_and_both_stay_below_the_evidence():
    """Eight rows, two classes: the evidence is a sum over 256 labellings."""
    torch.manual_seed(0)
    x = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 0, 0]])
    x = x.double()
    evidence = float(exact_evidence(x, 2, 2.0)) / len(x)
    closed = lfm.fit(mixture("bernoulli", 2, 3, 2.0), x, lfm.VariationalBayes(), seed=0)
    bound = closed.history[-1]["bound"]
    assert bound < evidence and bound > evidence - 0.35

    model = mixture("bernoulli", 2, 3, 2.0)
    # Started from the other's labels, as mixtures have many optima; each row has logits of its own.
    with torch.no_grad():
        model.drawn["x.probs"].value.copy_(closed.model.drawn["x.probs"].value)
    start = closed.posterior()["x.probs"].mean.logit()
    guide = lfm.Guide(
        model,
        c=lfm.Categorical(logits=lfm.PerRow()),
        **{"x.probs": lfm.Gaussian(mean=lfm.Learned(start), covariance=lfm.Diagonal(lfm.Learned(0.5)))},
    )
    svi = lfm.SVI(
        guide,
        objective=lfm.ELBO(particles=16),
        steps=600,
        learning_rate=0.03,
        schedule=lambda done: 1.0 - 0.95 * done,
    )
    lfm.fit(model, x, svi, seed=0, progress=False)
    with torch.no_grad():
        drawn = lfm.ELBO(particles=20_000).bound(model, guide, lfm.Batch({"x": x})).per_row.mean()
    # Gaussians of log-odds are no Betas: 0.020 nats are lost, with an error of 0.001 of the last steps and the draws.
    assert bound - 0.025 < drawn < bound + 0.005


def test_mixtures_recover_their_components():
    torch.manual_seed(0)
    label = torch.randint(3, (300,))
    centers = 4 * torch.randn(3, D)
    x = centers[label] + 0.5 * torch.randn(300, D)
    fit = lfm.fit(mixture("full", classes=5, concentration=0.01), x, lfm.VariationalBayes(), seed=1)
    used = fit.posterior()["c.probs"].mean > 0.05
    assert used.sum() == 3
    recovered = fit.posterior()["x.mean"].mean[used].float()
    assert torch.cdist(centers, recovered).min(1).values.max() < 0.3
    with pytest.raises(lfm.DeclarationError, match="fit.rank needs a linear model"):
        fit.rank  # noqa: B018


def test_callbacks_see_every_record():
    records = []
    fit = lfm.fit(
        factors(),
        rows(0),
        lfm.VariationalBayes(iterations=5),
        callbacks=[lambda record, fit: records.append(record)],
    )
    assert records == fit.history and len(records) == 6


class Program(lfm.PyroModel):
    def forward(self, batch):
        import pyro
        import pyro.distributions as dist

        with batch.plate():
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z.unsqueeze(-1), torch.ones(D)).to_event(1), obs=batch["x"])


def gaussian(**parts):
    return lfm.Gaussian(D, **parts)


REFUSED = {
    "no prior at all": (
        lambda: lfm.Model(z=lfm.StandardNormal(2), x=gaussian(mean=lfm.Linear())),
        "x has parameters without a prior",
    ),
    "a network": (
        lambda: lfm.Model(
            z=lfm.StandardNormal(2),
            x=gaussian(mean=lfm.MLP(4), covariance=lfm.Isotropic(prior=lfm.parameter_priors.Gamma())),
        ),
        "x has parameters without a prior",
    ),
    "noise without a prior": (
        lambda: lfm.Model(
            z=lfm.StandardNormal(2),
            x=gaussian(
                mean=lfm.Linear(prior=lfm.parameter_priors.ARD()), covariance=lfm.Isotropic(lfm.Fixed(1.0))
            ),
        ),
        "x has a bias or a noise without a prior",
    ),
    "weights without ARD": (
        lambda: lfm.Model(
            z=lfm.StandardNormal(2),
            x=gaussian(
                mean=lfm.Linear(prior=lfm.parameter_priors.Normal()),
                covariance=lfm.Isotropic(prior=lfm.parameter_priors.Gamma()),
            ),
        ),
        r"x.mean has weights whose prior is parameter_priors.Normal.*needs ARD",
    ),
    "a prior of z that is learned": (
        lambda: lfm.Model(
            z=lfm.Gaussian(2),
            x=gaussian(
                mean=lfm.Linear(prior=lfm.parameter_priors.ARD()),
                covariance=lfm.Isotropic(prior=lfm.parameter_priors.Gamma()),
            ),
        ),
        r"z is Gaussian.*needs StandardNormal\(K\)",
    ),
    "weights of classes without a prior": (
        lambda: lfm.Model(
            c=lfm.Categorical(2),
            x=gaussian(
                mean=lfm.Lookup(),
                covariance=lfm.Diagonal(lfm.Lookup()),
                given="c",
                prior=lfm.parameter_priors.NormalGamma(),
            ),
        ),
        "c has weights without a prior",
    ),
    "components without a prior": (
        lambda: lfm.Model(
            c=lfm.Categorical(2, prior=lfm.parameter_priors.Dirichlet()),
            x=gaussian(mean=lfm.Lookup(), covariance=lfm.Diagonal(lfm.Lookup()), given="c"),
        ),
        "x has parameters without a prior",
    ),
    "two latents": (
        lambda: lfm.Model(
            c=lfm.Categorical(2),
            z=lfm.Gaussian(2, mean=lfm.Lookup(), given="c"),
            x=gaussian(mean=lfm.Linear(), given="z"),
        ),
        "x does not read c: a closed form needs one that reads all latents",
    ),
    "a program": (Program, "Program is a program by hand: a closed form needs a declared lfm.Model"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_it_cannot_serve_it_names(case):
    make, words = REFUSED[case]
    with pytest.raises(lfm.DeclarationError, match="^lfm.VariationalBayes cannot serve.* " + words) as error:
        lfm.fit(make(), rows(0).float(), lfm.VariationalBayes())
    assert "lfm.SVI serves every declaration" in str(error.value)


def test_arguments_out_of_range(tmp_path):
    with pytest.raises(lfm.DeclarationError, match="iterations"):
        lfm.VariationalBayes(iterations=0)
    with pytest.raises(lfm.DeclarationError, match="tolerance"):
        lfm.VariationalBayes(tolerance=-1.0)
    with pytest.raises(lfm.DeclarationError, match="keeps no checkpoint"):
        lfm.fit(factors(), rows(0), lfm.VariationalBayes(), checkpoint=tmp_path / "state")
