"""EM of mixtures and of mixtures of factor analysers through the public interface."""

import warnings

import numpy as np
import pyro
import pytest
import torch
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.mixture import GaussianMixture

import pyro_lfm as lfm


def mixture(features, classes, covariance, **options):
    model = lfm.Model(
        c=lfm.Categorical(classes, **options),
        x=lfm.Gaussian(features, mean=lfm.Lookup(), covariance=covariance, given="c"),
    )
    return model.double()


def factor_analysers(features, classes, latent, covariance, **line):
    mean = lfm.Lookup(lfm.Linear(**line))
    model = lfm.Model(
        c=lfm.Categorical(classes),
        z=lfm.StandardNormal(latent),
        x=lfm.Gaussian(features, mean=mean, covariance=covariance, given=("c", "z")),
    )
    return model.double()


def bernoullis(features, classes):
    x = lfm.Bernoulli(features, logits=lfm.Lookup(), given="c")
    return lfm.Model(c=lfm.Categorical(classes), x=x).double()


COVARIANCES = {
    "isotropic": lambda: lfm.Isotropic(lfm.Lookup()),
    "isotropic-shared": lambda: lfm.Isotropic(),
    "diagonal": lambda: lfm.Diagonal(lfm.Lookup()),
    "diagonal-shared": lambda: lfm.Diagonal(),
    "full": lambda: lfm.Full(lfm.Lookup()),
    "full-shared": lambda: lfm.Full(),
    "fixed": lambda: lfm.Full(lfm.Fixed(0.5 * torch.eye(4))),
}
MODELS = {
    **{name: lambda c=c: mixture(4, 3, c()) for name, c in COVARIANCES.items()},
    "weights-fixed": lambda: mixture(4, 3, lfm.Full(lfm.Lookup()), logits=lfm.Fixed(0.0)),
    "one-mean": lambda: lfm.Model(
        c=lfm.Categorical(2),
        x=lfm.Gaussian(4, mean=lfm.Fixed(3.0), covariance=lfm.Full(lfm.Lookup()), given="c"),
    ).double(),
    "analysers": lambda: factor_analysers(4, 2, 2, lfm.Diagonal(lfm.Lookup())),
    "analysers-shared": lambda: factor_analysers(4, 2, 1, lfm.Diagonal()),
    "analysers-isotropic": lambda: factor_analysers(4, 2, 2, lfm.Isotropic()),
    "analysers-isotropic-lookup": lambda: factor_analysers(4, 2, 2, lfm.Isotropic(lfm.Lookup())),
    "analysers-fixed-bias": lambda: factor_analysers(4, 2, 2, lfm.Diagonal(), bias=lfm.Fixed(0.0)),
}


def iris(missing=0.0):
    x = torch.as_tensor(load_iris().data, dtype=torch.float64)
    hidden = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < missing
    return torch.where(hidden, torch.nan, x)


def fitted(model, x, inference, **options):
    return lfm.fit(model, x, inference, seed=0, progress=False, **options)


def brute_force(model, x):
    """log p of the observed entries, from the model's own distributions: a sum over classes, z marginalised by hand."""
    classes = model.latents["c"].categories
    with torch.no_grad():
        weights, means, covariances = model.factors["c"]().probs, [], []
        for c in range(classes):
            label = torch.full((1,), c)
            distribution = lambda *z, label=label: model.factors["x"](label, *z)  # noqa: E731
            if "z" in model.latents:
                latent = model.latents["z"].shape[0]
                label = torch.full((latent,), c)
                at_zero = model.factors["x"](torch.full((1,), c), torch.zeros(1, latent).double())
                at_one = model.factors["x"](label, torch.eye(latent).double())
                weight = (at_one.mean - at_zero.mean).T
            else:
                at_zero, weight = distribution(), torch.zeros(4, 1).double()
            spread = getattr(at_zero, "covariance_matrix", None)
            spread = at_zero.variance[0].diag() if spread is None else spread.reshape(4, 4)
            means.append(at_zero.mean[0])
            covariances.append(spread + weight @ weight.T)
    values = []
    for row in x:
        present = ~row.isnan()
        if not present.any():
            values.append(row.new_zeros(()))
            continue
        distributions = [
            torch.distributions.MultivariateNormal(mean[present], covariance[present][:, present])
            for mean, covariance in zip(means, covariances, strict=True)
        ]
        joint = (
            torch.stack([distribution.log_prob(row[present]) for distribution in distributions])
            + weights.log()
        )
        values.append(joint.logsumexp(0))
    return torch.stack(values)


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("name", MODELS)
def test_em_climbs_and_its_log_likelihood_is_that_of_the_model(name, missing):
    torch.manual_seed(0)
    x = iris(missing)
    for start in ("data", "model"):
        fit = fitted(MODELS[name](), x, lfm.EM(start=start, iterations=30, restarts=1))
        bounds = [record["bound"] for record in fit.history if record["step"] == "E"]
        assert np.diff(bounds).min(initial=0.0) > -1e-9 and bounds[-1] > bounds[0]
        for record in fit.history:
            assert record["log_likelihood"] == pytest.approx(record["bound"] + record["kl"], abs=1e-10)
        exact = fit.log_likelihood()
        assert exact.mean().item() == pytest.approx(fit.history[-1]["log_likelihood"], abs=1e-8)
        assert (exact - brute_force(fit.model, x)).abs().max() < 1e-8
        # Every single draw from the exact posterior gives log p(x), row by row.
        assert (fit.bound() - exact).abs().max() < 1e-7
        loss = pyro.infer.Trace_ELBO().loss(fit.model, fit.guide, lfm.Batch(x))
        assert -loss == pytest.approx(exact.sum().item(), abs=1e-5)
        assert fit.reconstruct().shape == x.shape


def test_em_goes_on_where_it_stopped():
    x = iris(0.1)
    for name, make in MODELS.items():
        model = make()
        reached = fitted(model, x, lfm.EM(iterations=5)).log_likelihood().mean().item()
        again = fitted(model, x, lfm.EM(start="model", iterations=5))
        assert again.history[0]["log_likelihood"] == pytest.approx(reached, abs=1e-9), name


@pytest.mark.parametrize(
    ("covariance", "sklearn_name"),
    [("isotropic", "spherical"), ("diagonal", "diag"), ("full", "full"), ("full-shared", "tied")],
)
@pytest.mark.parametrize("load", [load_iris, load_wine])
def test_from_the_same_start_mixtures_end_where_scikit_learns_do(load, covariance, sklearn_name):
    x = load().data
    x = (x - x.mean(0)) / x.std(0)
    model = mixture(x.shape[1], 3, COVARIANCES[covariance]())
    fitted(model, x, lfm.EM(iterations=0, restarts=1))
    distribution = model.factors["x"](torch.arange(3))
    precision = distribution.variance.detach().reciprocal()
    if hasattr(distribution, "precision_matrix"):
        precision = distribution.precision_matrix.detach()
    shaped = {"spherical": precision[:, 0], "tied": precision[0]}.get(sklearn_name, precision)
    start = {
        "weights_init": model.factors["c"]().probs.detach().numpy(),
        "means_init": distribution.mean.detach().numpy(),
        "precisions_init": shaped.numpy(),
    }
    options = {"tol": 1e-10, "reg_covar": 1e-12, "max_iter": 2000, "random_state": 0}
    other = GaussianMixture(3, covariance_type=sklearn_name, **start, **options).fit(x)
    fit = fitted(model, x, lfm.EM(start="model"))
    assert fit.log_likelihood().mean().item() == pytest.approx(other.score(x), abs=1e-5)


def test_a_mixture_of_bernoullis_of_digits():
    x = (load_digits().data > 7).astype(float)
    hidden = np.random.default_rng(0).random(x.shape) < 0.2
    fit = fitted(bernoullis(64, 10), np.where(hidden, np.nan, x), lfm.EM(restarts=2))
    assert fit.log_likelihood().mean().item() == pytest.approx(fit.history[-1]["log_likelihood"], abs=1e-8)
    filled = fit.reconstruct()
    column = np.broadcast_to(np.nanmean(np.where(hidden, np.nan, x), 0), x.shape)
    error = (filled.numpy() - x)[hidden]
    assert np.square(error).mean() < 0.8 * np.square((column - x)[hidden]).mean()
    assert fit.posterior(x[:5]).probs.shape == (5, 10)


def test_a_mixture_with_one_factor_beats_one_without():
    x = iris()
    without = fitted(mixture(4, 2, lfm.Diagonal(lfm.Lookup())), x, lfm.EM())
    model = factor_analysers(4, 2, 1, lfm.Diagonal(lfm.Lookup()))
    fit = fitted(model, x, lfm.EM(iterations=200))
    assert fit.log_likelihood().mean() > without.log_likelihood().mean() + 0.1


def test_the_posterior_of_class_and_factors():
    x = iris(0.2)
    fit = fitted(factor_analysers(4, 2, 2, lfm.Diagonal()), x, lfm.EM(iterations=50))
    posterior = fit.posterior(x[:6])
    assert posterior["c"].probs.shape == (6, 2) and posterior["z"].mean.shape == (6, 2)
    draws = fit.sample_posterior(x[:6], draws=500)["z"]
    assert (draws.mean(0) - posterior["z"].mean).abs().max() < 0.25
    assert (draws.var(0) - posterior["z"].variance).abs().max() < 0.35
    bound = lfm.ELBO(particles=5, kl="monte-carlo").bound(fit.model, fit.guide, x).per_row
    assert (bound - fit.log_likelihood()).abs().max() < 1e-8
    assert "KL c: closed form\n  KL z: closed form" in lfm.describe(fit.model, fit.guide)


def test_what_is_fixed_stays():
    model = mixture(4, 3, lfm.Full(lfm.Lookup()), logits=lfm.Fixed([0.0, 1.0, 2.0]))
    before = model.factors["c"]().probs.clone()
    fit = fitted(model, iris(), lfm.EM())
    assert torch.equal(fit.model.factors["c"]().probs, before)


def test_collapsing_components_stop_at_the_floor_and_say_so():
    x = torch.cat([torch.zeros(10, 4), iris()[:30]])
    with pytest.warns(lfm.ScaleFloorWarning, match="standard deviations of x"):
        fit = fitted(mixture(4, 3, lfm.Full(lfm.Lookup(), min_scale=0.01)), x, lfm.EM(iterations=300))
    assert fit.log_likelihood().isfinite().all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lfm.ScaleFloorWarning)
        one = fitted(mixture(4, 3, lfm.Diagonal(lfm.Lookup())), x[:1], lfm.EM(iterations=20))
    assert one.log_likelihood().isfinite().all()


CANNOT = {
    "x.mean is Linear": lambda: lfm.Model(
        c=lfm.Categorical(3), x=lfm.Gaussian(4, mean=lfm.Linear(), given="c")
    ),
    "x.mean is learned": lambda: lfm.Model(
        c=lfm.Categorical(3), x=lfm.Gaussian(4, covariance=lfm.Full(lfm.Lookup()), given="c")
    ),
    "x is Poisson": lambda: lfm.Model(c=lfm.Categorical(3), x=lfm.Poisson(4, rate=lfm.Lookup(), given="c")),
    "x.covariance has min_scale=0": lambda: mixture(4, 3, lfm.Full(lfm.Lookup(), min_scale=0.0)),
    "z is Gaussian.*StandardNormal": lambda: lfm.Model(
        c=lfm.Categorical(2), z=lfm.Gaussian(2), x=lfm.Gaussian(4, mean=lfm.Lookup(lfm.Linear()))
    ),
    "one module for all": lambda: lfm.Model(
        c=lfm.Categorical(2),
        z=lfm.StandardNormal(2),
        x=lfm.Gaussian(4, mean=lfm.Lookup(torch.nn.Linear(2, 4)), given=("c", "z")),
    ),
    "x.covariance is Full": lambda: factor_analysers(4, 2, 2, lfm.Full()),
    "z is given c": lambda: lfm.Model(
        c=lfm.Categorical(2),
        z=lfm.Gaussian(2, mean=lfm.Lookup(), given="c"),
        x=lfm.Gaussian(4, mean=lfm.Lookup(lfm.Linear()), given=("c", "z")),
    ),
}


@pytest.mark.parametrize("words", CANNOT)
def test_what_em_cannot_serve_it_says_by_name(words):
    with pytest.raises(lfm.DeclarationError, match=words):
        fitted(CANNOT[words](), torch.ones(5, 4), lfm.EM())


def test_a_mixture_has_no_factorised_posterior():
    with pytest.raises(lfm.DeclarationError, match="linear Gaussian models; use lfm.EM"):
        fitted(mixture(4, 3, lfm.Isotropic()), iris(), lfm.VariationalEM())
