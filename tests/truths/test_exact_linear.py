"""Exact inference in linear Gaussian models against closed forms, brute force, scikit-learn and independent sums."""

import warnings
from dataclasses import replace
from math import log, pi

import pytest
import torch
from sklearn import datasets
from sklearn.decomposition import FactorAnalysis
from torch.distributions import Gamma, MultivariateNormal, Normal

from pyro_lfm.errors import DataError, DeclarationError, ShapeError
from pyro_lfm.exact.linear.bayesian_linear import variational_bayes
from pyro_lfm.exact.linear.bayesian_posterior import GammaDistribution, LinearPrior
from pyro_lfm.exact.linear.expectation_maximisation import em
from pyro_lfm.exact.linear.factor_analysis import factor_analysis
from pyro_lfm.exact.linear.linear_gaussian import LinearGaussian, principal
from pyro_lfm.exact.linear.mean_field import variational_em
from pyro_lfm.exact.linear.rows import Rows

NAN = float("nan")
F64 = torch.float64
PPCA = {"digits": (datasets.load_digits, 10, -159.993731201), "iris": (datasets.load_iris, 2, -2.699751868)}
LOADERS = {
    "digits": datasets.load_digits,
    "wine": datasets.load_wine,
    "breast cancer": datasets.load_breast_cancer,
    "diabetes": datasets.load_diabetes,
    "iris": datasets.load_iris,
}


def table(loader):
    return torch.tensor(loader().data, dtype=F64)


def standardised(loader):
    x = table(loader)
    x = x[:, x.std(0) > 0]
    return (x - x.mean(0)) / x.std(0, correction=0)


def randn(g, *shape):
    return torch.randn(*shape, generator=g, dtype=F64)


def integer(g, low, high):
    return int(torch.randint(low, high + 1, (), generator=g))


def covariance(g, dim):
    root = randn(g, dim, dim + 2)
    return root @ root.mT / dim + 0.1 * torch.eye(dim, dtype=F64)


def problem(seed, structures=("isotropic", "diagonal"), standard=False):
    """A small random data set, half of them with missing entries, a start far from it, and names to hold fixed."""
    g = torch.Generator().manual_seed(seed)
    count, dim, latent_dim = integer(g, 3, 40), integer(g, 2, 7), integer(g, 1, 4)
    x = (
        randn(g, count, latent_dim) @ randn(g, latent_dim, dim)
        + 0.5 * randn(g, count, dim)
        + 3 * randn(g, dim)
    )
    if seed % 2:
        gone = torch.rand(count, dim, generator=g) < 0.3
        gone[0] = False
        x = x.masked_fill(gone, NAN)
    structure = structures[integer(g, 0, len(structures) - 1)]
    noise = {
        "isotropic": torch.tensor(0.7),
        "diagonal": 0.1 + torch.rand(dim, generator=g),
        "full": covariance(g, dim),
    }
    start = LinearGaussian(randn(g, dim, latent_dim), randn(g, dim), noise[structure])
    if seed % 3 == 0 and not standard:
        start = replace(start, prior_mean=randn(g, latent_dim), prior_covariance=covariance(g, latent_dim))
    fixed = [n for n in ("weight", "bias", "noise") if torch.rand((), generator=g) < 0.2]
    if structure == "full":
        fixed = sorted({*fixed, "noise"})
    return x, start, fixed


def brute_force(model, x):
    """ln p(x_observed) row by row from the D×D marginal covariance."""
    mean, cov = model.prior
    loc = model.bias + model.weight @ mean
    noise = model.noise if model.noise.dim() == 2 else torch.diag(model.noise.expand(len(loc)))
    sigma = model.weight @ cov @ model.weight.mT + noise
    result = []
    for row in x:
        seen = ~row.isnan()
        distribution = MultivariateNormal(loc[seen], sigma[seen][:, seen]) if bool(seen.any()) else None
        result.append(
            torch.zeros((), dtype=F64) if distribution is None else distribution.log_prob(row[seen])
        )
    return torch.stack(result)


def falls(values):
    return -float(torch.tensor(values, dtype=F64).diff().min()) if len(values) > 1 else 0.0


# Likelihood and posterior ----------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["isotropic", "diagonal", "full"])
@pytest.mark.parametrize("seed", range(4))
def test_likelihood_and_posterior_of_the_observed_entries_are_exact(structure, seed):
    x, model, _ = problem(seed, (structure,))
    x = torch.cat([x, torch.full_like(x[:1], NAN)])
    assert torch.allclose(model.log_likelihood(x), brute_force(model, x), atol=1e-9)
    mean, cov = model.prior
    noise = model.noise if structure == "full" else torch.diag(model.noise.expand(x.shape[1]))
    posterior = model.posterior(x)
    for row in range(len(x)):
        seen = ~x[row].isnan()
        weight = model.weight[seen]
        gain = cov @ weight.mT @ torch.linalg.pinv(weight @ cov @ weight.mT + noise[seen][:, seen])
        want = mean + gain @ (x[row, seen] - model.bias[seen] - weight @ mean)
        assert torch.allclose(posterior.mean[row], want, atol=1e-9)
        assert torch.allclose(posterior.covariance[row], cov - gain @ weight @ cov, atol=1e-9)


@pytest.mark.parametrize("structure", ["diagonal", "full"])
def test_fill_gives_the_conditional_mean(structure):
    x, model, _ = problem(7, (structure,))
    mean, cov = model.prior
    loc = model.bias + model.weight @ mean
    noise = model.noise if structure == "full" else torch.diag(model.noise)
    sigma = model.weight @ cov @ model.weight.mT + noise
    filled = model.fill(x)
    for row, full in zip(x, filled, strict=True):
        seen = ~row.isnan()
        want = (
            loc[~seen] + sigma[~seen][:, seen] @ torch.linalg.pinv(sigma[seen][:, seen]) @ (row - loc)[seen]
        )
        assert torch.allclose(full[~seen], want, atol=1e-9)
        assert torch.equal(full[seen], row[seen])


# EM --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PPCA)
@pytest.mark.parametrize("from_far", [False, True])
def test_em_reaches_the_closed_form_maximum(name, from_far):
    loader, latent_dim, published = PPCA[name]
    x = table(loader)
    rows = Rows.of(x)
    values = torch.linalg.eigvalsh(torch.cov(x.mT, correction=0)).flip(0)
    rest = values[latent_dim:].mean()
    truth = -0.5 * float(
        x.shape[1] * (log(2 * pi) + 1)
        + values[:latent_dim].log().sum()
        + len(values[latent_dim:]) * rest.log()
    )
    assert abs(truth - published) < 1e-8
    start = principal(rows, latent_dim)
    if from_far:
        g = torch.Generator().manual_seed(0)
        start = LinearGaussian(randn(g, x.shape[1], latent_dim), torch.zeros(x.shape[1]), torch.tensor(1.0))
    model, history = em(rows, start)
    reached = float(model.log_likelihood(x).mean())
    assert history.converged
    assert truth - 1e-8 < reached < truth + 1e-9
    assert abs(reached - history.log_likelihood[-1]) < 1e-9
    assert max(history.log_likelihood) < truth + 1e-9


@pytest.mark.parametrize("name", ["digits", "wine", "breast cancer", "diabetes"])
@pytest.mark.parametrize("latent_dim", [2, 5])
def test_factor_analysis_is_at_least_as_likely_as_in_scikit_learn(name, latent_dim):
    x = standardised(LOADERS[name])
    # Its floor: variances of 1e-12.
    start = factor_analysis(Rows.of(x), latent_dim, min_scale=1e-6)
    model, history = em(Rows.of(x), start, min_scale=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it does not converge where a noise variance tends to zero
        other = FactorAnalysis(latent_dim, svd_method="lapack", tol=1e-9, max_iter=2000).fit(x.numpy())
    assert float(model.log_likelihood(x).mean()) > float(other.score(x.numpy())) - 1e-9
    # The maximum is a fixed point of EM.
    assert history.log_likelihood[-1] - history.log_likelihood[0] < 1e-9


@pytest.mark.parametrize("algorithm", [em, variational_em])
@pytest.mark.parametrize("accelerate", [True, False])
def test_the_objective_never_falls(algorithm, accelerate):
    structures = ("isotropic", "diagonal") + ("full",) * (algorithm is em)
    for seed in range(50):
        x, start, fixed = problem(seed, structures)
        model, history = algorithm(Rows.of(x, 7), start, fixed=fixed, iterations=20, accelerate=accelerate)
        assert falls(history.bound) < 1e-9, seed
        if algorithm is em:
            assert falls(history.log_likelihood) < 1e-9, seed
            assert abs(history.log_likelihood[-1] - float(brute_force(model, x).mean())) < 1e-8, seed
        for step in history.steps:
            assert step.log_likelihood == pytest.approx(step.bound + step.kl, abs=1e-9)
            assert step.kl > -1e-9
        if not accelerate:
            assert falls([step.bound for step in history.steps]) < 1e-9, seed
        for name in fixed:
            assert torch.allclose(getattr(model, name), getattr(start, name), atol=1e-12), (seed, name)


@pytest.mark.parametrize("structure", ["isotropic", "diagonal", "full"])
def test_the_history_records_the_divergence_from_the_posterior(structure):
    """After an M step, KL(q ‖ p(z | x)) between two Gaussians, computed from scratch. (Full noise: nothing missing.)"""
    x, start, _ = problem(8, (structure,))
    fixed = ["noise"] if structure == "full" else []
    model, history = em(Rows.of(x), start, fixed=fixed, iterations=1, accelerate=False)
    old, new = start.posterior(x), model.posterior(x)
    divergence = torch.distributions.kl_divergence(MultivariateNormal(*old), MultivariateNormal(*new)).mean()
    assert history.steps[1].step == "M"
    assert history.steps[1].kl == pytest.approx(float(divergence), abs=1e-9)


@pytest.mark.parametrize("name", LOADERS)
def test_missing_entries_are_marginalised_and_filled_better_than_by_the_mean(name):
    x = standardised(LOADERS[name])[:300]
    x = x[:, x.std(0) > 0]
    gone = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.3
    seen = x.masked_fill(gone, NAN)
    rows = Rows.of(seen)
    model, history = em(rows, principal(rows, 3, "diagonal"), iterations=30, tolerance=1e-7)
    assert abs(history.log_likelihood[-1] - float(brute_force(model, seen).mean())) < 1e-8
    error = (model.fill(seen) - x)[gone].square().mean()
    assert error < (rows.mean - x)[gone].square().mean()


def test_a_stationary_point_with_missing_entries_has_no_gradient():
    x, start, _ = problem(11, ("diagonal",), standard=True)
    rows = Rows.of(x)
    model, history = em(rows, start, min_scale=0.2)
    parts = [model.weight.clone(), model.bias.clone(), model.noise.sqrt()]
    for part in parts:
        part.requires_grad_()
    total = torch.zeros((), dtype=F64)
    for row in x:
        seen = ~row.isnan()
        if bool(seen.any()):
            sigma = parts[0][seen] @ parts[0][seen].mT + torch.diag(parts[2][seen].square())
            total = total + MultivariateNormal(parts[1][seen], sigma).log_prob(row[seen])
    total.backward()
    inner = [d for d in range(rows.dim) if d not in history.floored]
    assert history.converged
    assert float(parts[0].grad.abs().max()) < 1e-3 and float(parts[1].grad.abs().max()) < 1e-3
    assert float(parts[2].grad[inner].abs().max()) < 1e-3
    assert all(float(parts[2].grad[d]) < 0 for d in history.floored)


# Variational EM --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PPCA)
@pytest.mark.parametrize("structure", ["isotropic", "diagonal"])
def test_the_gap_of_variational_em_is_the_closed_form(name, structure):
    x = table(PPCA[name][0])[:, :20]
    x = x[:, x.std(0) > 0.1]
    g = torch.Generator().manual_seed(2)
    start = LinearGaussian(
        randn(g, x.shape[1], 3), x.mean(0), torch.ones(() if structure == "isotropic" else x.shape[1])
    )
    first = NAN
    for iterations in (3, 300):
        model, history = variational_em(Rows.of(x), start, iterations=iterations)
        noise = model.noise.expand(x.shape[1])
        precision = torch.eye(3, dtype=F64) + model.weight.mT @ (model.weight / noise.unsqueeze(1))
        gap = 0.5 * float(precision.diagonal().log().sum() - precision.logdet())
        evidence = float(brute_force(model, x).mean())
        assert history.bound[-1] == pytest.approx(evidence - gap, abs=1e-8)
        assert history.steps[-1].kl == pytest.approx(gap, abs=1e-8)
        first = gap if iterations == 3 else first
    # Free to turn, W makes the factors independent in the posterior.
    assert gap < 0.1 * first


def test_a_fixed_weight_keeps_the_gap_open():
    x = table(datasets.load_iris)
    weight = torch.tensor([[1.0, 0.9], [1.0, 0.8], [1.0, 1.1], [1.0, 0.7]], dtype=F64)
    model, history = variational_em(
        Rows.of(x), LinearGaussian(weight, x.mean(0), torch.tensor(1.0)), fixed=["weight"]
    )
    precision = torch.eye(2, dtype=F64) + weight.mT @ weight / model.noise
    gap = 0.5 * float(precision.diagonal().log().sum() - precision.logdet())
    assert gap > 0.1
    assert history.steps[-1].kl == pytest.approx(gap, abs=1e-8)
    # The means of the best factorised q solve M m = h: a sweep of coordinate ascent from them moves nothing.
    mean = model.posterior(x).mean
    pull = (x - model.bias) @ weight / model.noise
    for j in range(2):
        swept = (pull[:, j] - precision[j, 1 - j] * mean[:, 1 - j]) / precision[j, j]
        assert torch.allclose(swept, mean[:, j], atol=1e-9)


# Variational Bayes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotate", [True, False])
def test_the_bound_of_variational_bayes_never_falls(rotate):
    for seed in range(50):
        x, start, _ = problem(seed, standard=True)
        _, history = variational_bayes(Rows.of(x, 7), start, iterations=20, rotate=rotate)
        assert falls(history.bound) < 1e-9, seed
        if not rotate:
            assert falls([step.bound for step in history.steps]) < 1e-9, seed


@pytest.mark.parametrize("noise, missing", [("isotropic", 0.0), ("isotropic", 0.1), ("diagonal", 0.0)])
def test_relevance_finds_the_rank(noise, missing):
    """20 of 20 seeds, D = 10, N = 300, three factors with 25, 16 and 9 times the variance of the noise."""
    ranks = []
    for seed in range(20):
        g = torch.Generator().manual_seed(seed)
        weight = torch.linalg.qr(randn(g, 10, 3))[0] * torch.tensor([5.0, 4.0, 3.0])
        x = randn(g, 300, 3) @ weight.mT + randn(g, 300, 10) + 2
        x = x.masked_fill(torch.rand(300, 10, generator=g) < missing, NAN)
        rows = Rows.of(x)
        posterior, history = variational_bayes(rows, principal(rows, 9, noise), tolerance=1e-6)
        assert history.converged
        ranks.append(posterior.rank())
    assert ranks == [3] * 20


TINY_PRIOR = LinearPrior(relevance=(3.0, 2.0), noise=(4.0, 2.0), bias_mean=0.3, bias_precision=0.8)


def test_the_bound_is_below_the_evidence_by_numerical_integration():
    """D = K = 1, N = 2: z, α and b are integrated by hand, w and τ on a grid."""
    x = torch.tensor([[1.2], [-0.4]], dtype=F64)
    start = LinearGaussian(torch.tensor([[0.8]]), torch.zeros(1), torch.tensor(0.5))
    _, history = variational_bayes(Rows.of(x), start, TINY_PRIOR)

    def log_evidence(points):
        w, log_tau = torch.linspace(-40, 40, points, dtype=F64), torch.linspace(-8, 4, points, dtype=F64)
        shape, rate = TINY_PRIOR.relevance
        # ∫ N(w; 0, 1/α) Gamma(α; a, b) dα is a Student distribution.
        student = torch.distributions.StudentT(2 * shape, 0.0, (rate / shape) ** 0.5).log_prob(w)
        tau = Gamma(*torch.tensor(TINY_PRIOR.noise, dtype=F64)).log_prob(log_tau.exp()) + log_tau
        variance = w.square().unsqueeze(1) + (-log_tau).exp()
        away = x.flatten() - TINY_PRIOR.bias_mean
        # Rows share b: covariance variance·I + 1/β₀, eigenvalues variance and variance + 2/β₀.
        wide = variance + 2 / TINY_PRIOR.bias_precision
        common, contrast = away.sum().square() / 2, (away[0] - away[1]).square() / 2
        data = -log(2 * pi) - 0.5 * (variance.log() + wide.log() + common / wide + contrast / variance)
        cell = (w[1] - w[0]).log() + (log_tau[1] - log_tau[0]).log()
        return float(torch.logsumexp((data + student.unsqueeze(1) + tau).flatten(), 0) + cell)

    evidence = log_evidence(1601)
    assert evidence == pytest.approx(log_evidence(1201), abs=1e-4)
    bound = 2 * history.bound[-1]
    assert evidence - 1.5 < bound < evidence


@pytest.mark.parametrize("isotropic", [True, False])
@pytest.mark.parametrize("missing", [False, True])
def test_the_bound_is_the_mean_of_ln_p_minus_ln_q(isotropic, missing):
    """Monte Carlo with all densities from torch; fixed seeds; 4 standard errors: a false alarm in 16,000 per case."""
    g = torch.Generator().manual_seed(5)
    x = randn(g, 6, 3) + 0.5
    if missing:
        x[0, 1] = x[2, 0] = x[2, 2] = NAN
    start = LinearGaussian(randn(g, 3, 2), torch.zeros(3), torch.ones(() if isotropic else 3) * 0.5)
    q, history = variational_bayes(Rows.of(x), start, TINY_PRIOR, iterations=7)
    torch.manual_seed(0)
    draws = 40_000
    line_distribution = MultivariateNormal(q.line, q.covariance.expand(3, -1, -1))
    alpha_distribution, tau_distribution = Gamma(*q.relevance), Gamma(*q.noise)
    z_distribution = MultivariateNormal(*q.posterior(x))
    line, alpha, tau = (
        distribution.sample((draws,))
        for distribution in (line_distribution, alpha_distribution, tau_distribution)
    )
    z = z_distribution.sample((draws,))
    precision = tau.reshape(draws, 1, -1).expand(draws, 1, 3)
    loc = z @ line[:, :, :-1].mT + line[:, :, -1].unsqueeze(1)
    data = Normal(loc, precision.rsqrt()).log_prob(x.nan_to_num()).masked_fill(x.isnan(), 0.0)
    prior = TINY_PRIOR
    total = data.sum((1, 2)) + Normal(0.0, 1.0).log_prob(z).sum((1, 2)) - z_distribution.log_prob(z).sum(1)
    total += Normal(0.0, alpha.rsqrt().unsqueeze(1)).log_prob(line[:, :, :-1]).sum((1, 2))
    total += Normal(prior.bias_mean, prior.bias_precision**-0.5).log_prob(line[:, :, -1]).sum(1)
    total += Gamma(*torch.tensor(prior.relevance)).log_prob(alpha).sum(1) - alpha_distribution.log_prob(
        alpha
    ).sum(1)
    noise = Gamma(*torch.tensor(prior.noise)).log_prob(tau) - tau_distribution.log_prob(tau)
    total += (noise if isotropic else noise.sum(1)) - line_distribution.log_prob(line).sum(1)
    standard_error = float(total.std()) / draws**0.5
    # The last step is an update of q(Z), so q(z) computed anew is the q(z) of the bound.
    assert abs(float(total.mean()) - 6 * history.bound[-1]) < 4 * standard_error
    assert standard_error < 0.05


def test_gamma_divergence_is_that_of_torch():
    q, p = (
        GammaDistribution(torch.tensor(2.5), torch.tensor(0.7)),
        GammaDistribution(torch.tensor(0.3), torch.tensor(4.0)),
    )
    assert torch.allclose(q.divergence(p), torch.distributions.kl_divergence(Gamma(*q), Gamma(*p)))


# Data ------------------------------------------------------------------------------------------------------


def test_complete_data_are_read_once_and_in_any_blocks():
    x = table(datasets.load_wine)
    passes = []

    def blocks(sizes):
        def start():
            passes.append(sizes)
            return iter(x.split(sizes))

        return start

    models = []
    for sizes in ([178], [1] * 178, [100, 3, 75], [5, 173]):
        rows = Rows(blocks(sizes))
        em(rows, principal(rows, 2, "diagonal"), iterations=5)
        models.append(em(rows, principal(rows, 2), iterations=5)[0])
    assert len(passes) == 4
    truth = torch.cov(x.mT, correction=0) * len(x)
    (piece,) = rows.pieces()
    assert len(piece.values) == x.shape[1] + 1
    assert torch.allclose(piece.values.mT @ piece.values, truth, rtol=1e-9, atol=1e-6)
    assert torch.allclose(rows.mean, x.mean(0)) and torch.allclose(rows.variance, x.var(0, correction=0))
    for model in models[1:]:
        # The sign of a factor is free.
        assert torch.allclose(model.weight @ model.weight.mT, models[0].weight @ models[0].weight.mT)


def test_blocks_make_no_difference_with_missing_entries():
    x, start, _ = problem(13, ("diagonal",))
    first, second = (em(Rows.of(x, block), start, iterations=20)[1] for block in (1, 100))
    assert first.log_likelihood == pytest.approx(second.log_likelihood, abs=1e-8)


def test_column_statistics_survive_a_large_offset():
    g = torch.Generator().manual_seed(0)
    x = 1e6 + randn(g, 500, 3)
    x[::7, 1] = NAN
    rows = Rows.of(x, 10)
    seen = x[:, 1][~x[:, 1].isnan()]
    assert float(rows.variance[1]) == pytest.approx(float(seen.var(correction=0)), rel=1e-9)


def degenerate():
    g = torch.Generator().manual_seed(0)
    x = randn(g, 30, 4)
    constant, duplicated = x.clone(), x.clone()
    constant[:, 2] = 5.0
    duplicated[:, 3] = x[:, 0]
    row_missing, one_seen = x.clone(), x.clone()
    row_missing[3] = NAN
    one_seen[1:, 2] = NAN
    return {
        "constant column": constant,
        "all constant": torch.ones(10, 4, dtype=F64),
        "duplicated column": duplicated,
        "fewer rows than columns": randn(g, 3, 6),
        "one row": x[:1],
        "a row wholly missing": row_missing,
        "one entry of a column": one_seen,
        "one column": x[:, :1],
        "scales far apart": x * torch.tensor([1e-6, 1.0, 1e3, 1e8], dtype=F64),
    }


@pytest.mark.parametrize("name", degenerate())
@pytest.mark.parametrize("noise", ["isotropic", "diagonal"])
@pytest.mark.parametrize("latent_dim", [1, 4])
def test_degenerate_data_get_a_finite_answer(name, noise, latent_dim):
    x = degenerate()[name]
    rows = Rows.of(x)
    starts = [principal(rows, latent_dim, noise)]
    if noise == "diagonal":
        starts.append(factor_analysis(rows, latent_dim))
    for start in starts:
        for algorithm in (em, variational_em):
            model, history = algorithm(rows, start, iterations=50)
            assert all(bool(part.isfinite().all()) for part in (model.weight, model.bias, model.noise))
            assert bool(model.log_likelihood(x).isfinite().all())
            assert falls(history.bound) < 1e-9
        posterior, history = variational_bayes(rows, start, iterations=50)
        assert bool(posterior.line.isfinite().all()) and falls(history.bound) < 1e-9


def test_a_floor_that_is_hit_is_reported():
    x = degenerate()["constant column"]
    rows = Rows.of(x)
    model, history = em(rows, principal(rows, 1, "diagonal", min_scale=0.01), min_scale=0.01)
    assert 2 in history.floored and float(model.noise[2].sqrt()) == pytest.approx(0.01)
    rows = Rows.of(torch.randn(200, 4, generator=torch.Generator().manual_seed(3)))
    assert em(rows, principal(rows, 1), min_scale=0.01)[1].floored == ()


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: Rows.of(torch.zeros(0, 3)), DataError, "at least one row"),
        (lambda: Rows.of(torch.zeros(3)), DataError, r"shape \(N, D\)"),
        (lambda: Rows.of(torch.zeros(3, 0)), DataError, "at least one column"),
        (lambda: Rows.of(torch.tensor([[1.0, NAN], [2.0, NAN]])), DataError, "column 1 has none"),
        (lambda: Rows.of(torch.tensor([[float("inf")]])), DataError, "finite"),
        (lambda: Rows(lambda: iter([torch.zeros(2, 2), torch.zeros(2, 3)])), DataError, r"\(B, 2\)"),
        (lambda: principal(Rows.of(torch.eye(3)), 0), DeclarationError, "at least 1"),
        (lambda: principal(Rows.of(torch.eye(3)), 1, min_scale=0.0), DeclarationError, "min_scale"),
        (lambda: principal(Rows.of(torch.eye(3)), 1, "full"), DeclarationError, "isotropic"),
        (lambda: em(Rows.of(torch.eye(3)), _model(2)), ShapeError, "3 columns"),
        (lambda: em(Rows.of(torch.eye(2)), _model(2), fixed=["sigma"]), DeclarationError, "sigma"),
        (
            lambda: em(Rows.of(torch.eye(2)), replace(_model(2), noise=torch.eye(2))),
            DeclarationError,
            "must be fixed",
        ),
        (lambda: _model(2).log_likelihood(torch.zeros(1, 3)), ShapeError, r"\(N, 2\)"),
        (lambda: replace(_model(2), noise=torch.tensor(0.0)), DeclarationError, "variances > 0"),
        (lambda: replace(_model(2), noise=-torch.eye(2)), DeclarationError, "positive definite"),
        (lambda: replace(_model(2), bias=torch.zeros(3)), ShapeError, "bias"),
        (
            lambda: variational_bayes(Rows.of(torch.eye(2)), replace(_model(2), prior_mean=torch.ones(1))),
            DeclarationError,
            "standard",
        ),
        (lambda: LinearPrior(noise=(0.0, 1.0)), DeclarationError, "noise"),
    ],
)
def test_faults_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call()


def _model(dim):
    return LinearGaussian(torch.ones(dim, 1), torch.zeros(dim), torch.tensor(1.0))
