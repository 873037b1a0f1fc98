"""Gaussians of every covariance structure are accurate for condition numbers to 1e6 (float32) and 1e12 (float64).

The references are computed with 50 digits, from the numbers that the distribution was given.
"""

import math
import warnings

import mpmath
import numpy as np
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.distributions.kl import gaussian_moments, kl_closed_form
from pyro_lfm.distributions.low_rank import LowRankGaussian
from pyro_lfm.distributions.masking import missing_part, observed_part
from pyro_lfm.distributions.normal import Normal
from pyro_lfm.distributions.positive_definite import tril_of_precision
from pyro_lfm.distributions.product import product

D = 5
CONDITIONS = [(torch.float32, 1e2), (torch.float32, 1e6), (torch.float64, 1e6), (torch.float64, 1e12)]


def orthogonal(seed, dim=D):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]


def spectrum(condition, seed=0):
    """A covariance whose eigenvalues go from 1 to 1 / condition, in no order of the entries."""
    q = orthogonal(seed)
    matrix = (q * np.logspace(0, -math.log10(condition), D)) @ q.T
    return (matrix + matrix.T) / 2


def columns(condition, seed=0):
    """A well conditioned correlation, under standard deviations of different size."""
    q = orthogonal(seed)
    scale = np.sqrt(np.logspace(0, -math.log10(condition), D))
    matrix = scale[:, None] * ((q * np.linspace(1, 0.2, D)) @ q.T) * scale
    return (matrix + matrix.T) / 2


def duplicates(condition, seed=0):
    """Two entries that differ by a share 1 / condition of their variance, as duplicated columns with a floor."""
    matrix = columns(1.0, seed)
    matrix[1], matrix[:, 1] = matrix[0], matrix[:, 0]
    matrix[1, 1] = matrix[0, 0]
    return matrix + np.diag([0.0, 1 / condition, 0.0, 0.0, 0.0])


KINDS = [spectrum, columns, duplicates]


def exact(tensor):
    with mpmath.workdps(50):
        return mpmath.matrix(tensor.detach().double().tolist())


def log_density(covariance, loc, value):
    """ln N(value; loc, covariance) with 50 digits, of one point."""
    with mpmath.workdps(50):
        root = mpmath.cholesky(covariance)
        gap = mpmath.matrix([a - b for a, b in zip(value, loc, strict=True)])
        white = mpmath.lu_solve(root, gap)
        log_det = sum(mpmath.log(root[k, k]) for k in range(len(gap)))
        square = sum(w**2 for w in white)
        return float(-square / 2 - log_det - len(gap) * mpmath.log(2 * mpmath.pi) / 2)


def divergence(q, p):
    """KL of two centred Gaussians with 50 digits."""
    with mpmath.workdps(50):
        ratio = mpmath.lu_solve(p, q) if q.cols == 1 else mpmath.inverse(p) * q
        trace = sum(ratio[k, k] for k in range(q.rows))
        return float((trace - q.rows + mpmath.log(mpmath.det(p)) - mpmath.log(mpmath.det(q))) / 2)


def full(covariance, dtype, loc=None):
    matrix = torch.tensor(covariance, dtype=dtype)
    loc = torch.zeros(D, dtype=dtype) if loc is None else loc
    factor = lfm.Gaussian(D, mean=lfm.Fixed(loc), covariance=lfm.Full(lfm.Fixed(matrix), min_scale=0.0))
    return factor.build("x", []).to(dtype)(), matrix


def tolerance(dtype, condition, times=20.0):
    """A relative change of eps in Σ changes its inverse by condition × eps."""
    return times * torch.finfo(dtype).eps * condition + 2e-5 * (dtype == torch.float32)


# Densities ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "condition"), CONDITIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unit", [1.0, 1e-20, 1e20])
def test_a_given_matrix_is_the_covariance_and_has_its_density(kind, dtype, condition, unit):
    distribution, matrix = full(kind(condition) * unit, dtype)
    spread = matrix.diagonal().sqrt()
    assert (
        (distribution.covariance_matrix - matrix) / spread / spread[:, None]
    ).abs().max() < 100 * torch.finfo(dtype).eps
    torch.manual_seed(0)
    draws = distribution.rsample((4,)).detach()
    drawn = distribution.log_prob(draws)
    values = draws.clone().requires_grad_()  # without the noise that a draw carries
    given = distribution.log_prob(values)
    covariance = exact(matrix)
    expected = torch.tensor(
        [log_density(covariance, [0] * D, exact(row)) for row in draws], dtype=torch.float64
    )
    assert (given - expected).abs().max() < tolerance(dtype, condition)
    assert drawn.isfinite().all() and bool(torch.autograd.grad(given.sum(), values)[0].isfinite().all())


@pytest.mark.parametrize(("dtype", "condition"), CONDITIONS)
@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("unit", [1e-18, 1.0, 1e18])
def test_low_rank_is_accurate_where_its_loadings_are_large(dtype, condition, rank, unit):
    generator = torch.Generator().manual_seed(0)
    loadings = math.sqrt(condition) * torch.randn(D, rank, generator=generator, dtype=torch.float64)
    loadings[:, -1] = loadings[:, 0] * (1 + 1e-3 * torch.randn(D, generator=generator, dtype=torch.float64))
    raw = torch.cat([torch.zeros(D, 1, dtype=torch.float64), loadings], 1).to(dtype).requires_grad_()
    floor = torch.full((D,), unit, dtype=dtype)
    covariance = lfm.LowRank(rank)
    distribution = LowRankGaussian(torch.zeros(D, dtype=dtype), floor, raw[:, 1:])
    assert type(covariance.distribution(distribution.loc, raw, torch.Size((D,)), floor)) is LowRankGaussian
    with mpmath.workdps(50):
        scaled = exact(raw[:, 1:])
        matrix = (scaled * scaled.T + mpmath.eye(D)) * mpmath.mpf(float(floor[0])) ** 2
    torch.manual_seed(0)
    draws = distribution.rsample((4,)).detach()
    expected = torch.tensor([log_density(matrix, [0] * D, exact(row)) for row in draws], dtype=torch.float64)
    result = distribution.log_prob(draws)
    # Each draw is rounded by eps of its size, √condition standard deviations of the short axes: a change of their square.
    # The products of the loadings are rounded by eps of condition, which the nearly equal ones leave in the determinant.
    bound = tolerance(dtype, math.sqrt(condition), 200.0) + 4 * torch.finfo(dtype).eps * condition
    assert (result - expected).abs().max() < bound
    assert float(distribution.entropy().detach()) == pytest.approx(
        float(0.5 * (D * (1 + mpmath.log(2 * mpmath.pi)) + mpmath.log(mpmath.det(matrix)))), rel=1e-5
    )
    (gradient,) = torch.autograd.grad(result.sum(), raw)
    assert gradient.isfinite().all()
    spread = torch.tensor([float(mpmath.sqrt(matrix[k, k])) for k in range(D)])
    assert torch.allclose(gaussian_moments(distribution).spread.float(), spread, rtol=1e-5)


@pytest.mark.parametrize("covariance", [lfm.Isotropic, lfm.Diagonal])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-20, 1e-10, 1.0, 1e10, 1e20])
def test_independent_entries_of_any_size(covariance, dtype, scale):
    declared = covariance()
    floor, event = torch.zeros(1, dtype=dtype), torch.Size((1,))
    raw = torch.full((1,), scale if scale > 30 else math.log(math.expm1(scale)), dtype=dtype)
    distribution = declared.distribution(torch.zeros(1, dtype=dtype), raw, event, floor)
    value = torch.full((1,), 2 * scale, dtype=dtype)
    expected = -2.0 - math.log(scale) - 0.5 * math.log(2 * math.pi)
    assert float(distribution.log_prob(value)) == pytest.approx(expected, abs=1e-4)
    twice = Normal(distribution.mean, 2 * distribution.base_dist.scale).to_event(1)
    assert float(kl_closed_form(distribution, twice)) == pytest.approx(math.log(2) - 0.375, abs=1e-5)


# Divergences -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "condition"), CONDITIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_divergences_of_ill_conditioned_covariances(kind, dtype, condition):
    (q, sigma), (p, other) = full(kind(condition), dtype), full(kind(condition, seed=1), dtype)
    result = kl_closed_form(q, p)
    expected = divergence(exact(sigma), exact(other))
    assert float(result) == pytest.approx(expected, rel=tolerance(dtype, condition), abs=1e-3)
    assert float(kl_closed_form(q, q)) == pytest.approx(0.0, abs=1e-4)
    unit = Normal(torch.zeros(D, dtype=dtype), torch.ones(D, dtype=dtype)).to_event(1)
    expected = divergence(exact(sigma), mpmath.eye(D))
    assert float(kl_closed_form(q, unit)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("size", [1.0, 1e3, 1e5])
def test_divergences_of_low_rank_guides_with_large_loadings(rank, size):
    """In float32, 1 + VᵀV is V²'s rounding from about 1e4 on; a guide's V may be larger."""
    loadings = (size * torch.randn(D, rank, generator=torch.Generator().manual_seed(1))).requires_grad_()
    q = LowRankGaussian(torch.zeros(D), torch.full((D,), 0.1), loadings)
    unit = Normal(torch.zeros(D), torch.ones(D)).to_event(1)
    with mpmath.workdps(50):
        scaled = exact(loadings)
        matrix = (scaled * scaled.T + mpmath.eye(D)) * mpmath.mpf(float(torch.tensor(0.1))) ** 2
    result = kl_closed_form(q, unit)
    assert float(result.detach()) == pytest.approx(divergence(matrix, mpmath.eye(D)), rel=1e-4)
    dense, _ = full(np.eye(D), torch.float32)
    assert float(kl_closed_form(q, dense).detach()) == pytest.approx(float(result.detach()), rel=1e-4)
    assert bool(torch.autograd.grad(result, loadings)[0].isfinite().all())


# Parts of a row, products --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "condition"), CONDITIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unit", [1.0, 1e-20, 1e20])
def test_rows_with_gaps_under_ill_conditioned_covariances(kind, dtype, condition, unit):
    distribution, matrix = full(kind(condition) * unit, dtype)
    torch.manual_seed(0)
    value = distribution.sample((1,))
    mask = torch.tensor([[True, False, True, True, False]])
    seen, gone = mask[0].nonzero().flatten().tolist(), (~mask[0]).nonzero().flatten().tolist()
    with mpmath.workdps(50):
        every = exact(matrix)
        inner = mpmath.matrix([[every[i, j] for j in seen] for i in seen])
        cross = mpmath.matrix([[every[i, j] for j in seen] for i in gone])
        observed = [exact(value[0])[k] for k in seen]
        mean = cross * mpmath.lu_solve(inner, mpmath.matrix(observed))
    result = observed_part(distribution, mask, "x").log_prob(value)
    expected = log_density(inner, [0] * len(seen), observed)
    assert float(result) == pytest.approx(expected, abs=tolerance(dtype, condition))
    filled, draw = missing_part(distribution, value, mask, "x")
    spread = matrix.diagonal().sqrt()[gone].double()
    off = (filled[0, gone].double() - torch.tensor([float(m) for m in mean], dtype=torch.float64)) / spread
    assert off.abs().max() < tolerance(dtype, math.sqrt(condition), 100.0)
    assert draw().isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ratio", [1e-8, 1e-4, 1.0, 1e4, 1e8])
@pytest.mark.parametrize("unit", [1e-15, 1.0, 1e15])
def test_a_message_of_any_sharpness(dtype, ratio, unit):
    prior = Normal(torch.zeros(1, dtype=dtype), torch.full((1,), unit, dtype=dtype)).to_event(1)
    message = Normal(
        torch.full((1,), unit, dtype=dtype), torch.full((1,), unit * ratio, dtype=dtype)
    ).to_event(1)
    both = product(prior, message)
    assert float(both.mean / unit) == pytest.approx(1 / (1 + ratio**2), rel=1e-5)
    assert float(both.base_dist.scale / unit) == pytest.approx(ratio / math.hypot(1, ratio), rel=1e-5)


@pytest.mark.parametrize(("dtype", "condition"), CONDITIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_covariance_of_an_ill_conditioned_precision(kind, dtype, condition):
    precision = torch.tensor(kind(condition), dtype=dtype)
    tril = tril_of_precision(precision)
    identity = tril.mT.double() @ precision.double() @ tril.double()
    assert (identity - torch.eye(D)).abs().max() < tolerance(dtype, condition)
    assert bool((tril.diagonal() > 0).all())


# Fits --------------------------------------------------------------------------------------------------------


def rows(kind, n=40):
    generator = np.random.default_rng(0)
    x = (
        generator.normal(size=(n, 2)) @ generator.normal(size=(2, D))
        + 0.3 * generator.normal(size=(n, D))
        + 0.5
    )
    if kind == "few":
        return x[:3]
    if kind == "duplicated":
        x[:, 1] = x[:, 0]
    if kind == "constant":
        x[:, 1], x[:, 2] = 3.0, 0.0
    if kind == "alike":
        x[:] = x[0]
    if kind == "sizes":
        x *= SIZES
    if kind == "all of it":
        x[:, 1], x[:, 2] = x[:, 0], 3.0
        x = x * SIZES
        x[::7, 3] = np.nan
    return x


SIZES = np.array([1e20, 1e-20, 1.0, 1e10, 1e-10])
DATA = ["few", "duplicated", "constant", "alike", "sizes", "all of it"]


def linear(covariance):
    return lambda: lfm.Model(
        z=lfm.StandardNormal(2), x=lfm.Gaussian(D, mean=lfm.Linear(), covariance=covariance())
    )


def mixture(covariance):
    x = lfm.Gaussian(D, mean=lfm.Lookup(), covariance=covariance(lfm.Lookup()), given="c")
    return lambda: lfm.Model(c=lfm.Categorical(2), x=x)


EXACT = {
    "factor analysis": (linear(lfm.Diagonal), lfm.EM(iterations=10)),
    "PCA": (linear(lfm.Isotropic), lfm.EM(iterations=10)),
    "variational": (linear(lfm.Diagonal), lfm.VariationalEM(iterations=10)),
    "diagonal mixture": (mixture(lfm.Diagonal), lfm.EM(iterations=10)),
    "full mixture": (mixture(lfm.Full), lfm.EM(iterations=10)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("name", EXACT)
def test_exact_fits_of_degenerate_rows_answer_in_numbers(name, kind, dtype):
    make, inference = EXACT[name]
    torch.manual_seed(0)
    model, x = make().to(dtype), torch.tensor(rows(kind), dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = lfm.fit(model, x, inference, seed=0, progress=False)
        answers = [
            fit.bound(),
            fit.reconstruct(),
            fit.impute(draws=2).draws["x"],
            model.sample(5, seed=0)["x"],
        ]
    assert math.isfinite(fit.history[-1]["bound"])
    assert all(bool(answer.isfinite().all()) for answer in answers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["factor analysis", "variational", "diagonal mixture", "full mixture"])
def test_answers_do_not_depend_on_the_sizes_of_columns(name, dtype):
    make, inference = EXACT[name]
    bounds = []
    for kind in ("plain", "sizes"):
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x = torch.tensor(rows(kind), dtype=dtype)
            fit = lfm.fit(make().to(dtype), x, inference, seed=0, progress=False)
        bounds.append((fit.history[-1]["bound"], float(fit.bound(draws=20).mean())))
    expected = np.array(bounds[0]) - np.log(SIZES).sum()
    assert bounds[1] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("kind", ["few", "duplicated", "constant", "alike"])
@pytest.mark.parametrize(
    "covariance", [lfm.Isotropic, lfm.Diagonal, lambda **o: lfm.LowRank(2, **o), lfm.Full]
)
def test_gradients_on_degenerate_rows_are_finite(covariance, kind):
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(3), x=lfm.Gaussian(D, mean=lfm.Linear(), covariance=covariance()))
    guide = lfm.Guide(model, z=lfm.Gaussian(covariance=covariance(), network=lfm.MLP(4)))
    x = torch.tensor(rows(kind), dtype=torch.float32)
    svi = lfm.SVI(guide, epochs=15, batch_size=20, learning_rate=0.05, engine="eager", max_skipped=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lfm.ScaleFloorWarning)
        fit = lfm.fit(model, x, svi, seed=0, progress=False)
    assert fit.skipped == 0 and math.isfinite(fit.history[-1]["bound"])
    assert fit.bound().isfinite().all()


@pytest.mark.parametrize("unit", [1e-20, 1e20])
def test_precisions_that_float32_cannot_hold_are_refused_with_a_remedy_that_works(unit):
    def declare():
        x = lfm.Gaussian(
            D,
            mean=lfm.Linear(prior=lfm.parameter_priors.ARD()),
            covariance=lfm.Diagonal(prior=lfm.parameter_priors.Gamma()),
        )
        return lfm.Model(z=lfm.StandardNormal(2), x=x)

    x = torch.tensor(unit * rows("plain"))
    inference = lfm.VariationalBayes(iterations=5)
    with pytest.raises(lfm.DataError, match=r"float32 does not hold the precisions.*scale the data.*float64"):
        lfm.fit(declare(), x, inference, seed=0, progress=False)
    for model, data in ((declare().double(), x), (declare(), (x - x.mean(0)) / x.std(0))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lfm.ConvergenceWarning)
            fit = lfm.fit(model, data, inference, seed=0, progress=False)
        assert fit.bound().isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_process_with_inducing_locations_that_coincide(dtype):
    times = torch.tensor([0.0, 0.0, 1e-6, 0.5, 0.5, 1.0], dtype=dtype)
    model = lfm.Model(
        t=lfm.Covariate(),
        z=lfm.GaussianProcess(2, lfm.SquaredExponential(10.0), inducing=times, given="t"),
        x=lfm.Gaussian(D, mean=lfm.Linear(), given="z"),
    ).to(dtype)
    guide = lfm.Guide(model, z=lfm.GaussianMessage(network=lfm.MLP(4), given="x")).to(dtype)
    data = {"t": torch.linspace(0, 1, 40, dtype=dtype), "x": torch.tensor(rows("plain"), dtype=dtype)}
    svi = lfm.SVI(guide, epochs=5, batch_size=20, engine="eager", max_skipped=0)
    fit = lfm.fit(model, data, svi, seed=0, progress=False)
    assert fit.bound().isfinite().all() and fit.posterior(data)["z"].stddev.isfinite().all()
