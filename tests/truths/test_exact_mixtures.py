"""Mixtures by EM and variational Bayes: exact likelihoods, monotone ascent, degenerate data, exact bounds.

Every random number comes from a fixed seed. All tolerances are for rounding, except in the tests that recover clusters.
"""

import ast
import itertools
import math
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch.distributions import MultivariateNormal

from pyro_lfm.errors import DataError, DeclarationError, ShapeError
from pyro_lfm.exact.mixtures.bayesian_mixture import fit_bayesian_mixture
from pyro_lfm.exact.mixtures.bernoullis import Bernoullis
from pyro_lfm.exact.mixtures.conjugate_components import NormalGammas, NormalWisharts
from pyro_lfm.exact.mixtures.conjugate_probabilities import Betas
from pyro_lfm.exact.mixtures.full_gaussians import FullGaussians
from pyro_lfm.exact.mixtures.gaussians import DiagonalGaussians
from pyro_lfm.exact.mixtures.mixture import Mixture, fit_mixture
from pyro_lfm.exact.mixtures.mixture_of_factors import FactorAnalysers
from pyro_lfm.exact.mixtures.starts import start_bernoullis, start_factors, start_gaussians
from pyro_lfm.warning_kinds import ScaleFloorWarning

NAN = float("nan")


def gaussian_start(covariance, shared):
    return lambda rows, classes, seed: start_gaussians(
        rows, classes, seed=seed, covariance=covariance, shared=shared
    )


KINDS = {
    "isotropic": gaussian_start("isotropic", False),
    "isotropic, shared": gaussian_start("isotropic", True),
    "diagonal": gaussian_start("diagonal", False),
    "diagonal, shared": gaussian_start("diagonal", True),
    "full": gaussian_start("full", False),
    "full, shared": gaussian_start("full", True),
    "Bernoulli": lambda rows, classes, seed: start_bernoullis(rows, classes, seed=seed),
    "factors": lambda rows, classes, seed: start_factors(rows, classes, 2, seed=seed),
    "factors, isotropic, shared": lambda rows, classes, seed: start_factors(
        rows, classes, 1, seed=seed, isotropic=True, shared=True
    ),
}


def priors(x):
    """A vague prior of each kind, around the data."""
    dim = x.shape[1]
    mean, one = x.nanmean(0, keepdim=True).nan_to_num(), torch.ones(1)
    return {
        "diagonal": NormalGammas(mean, 0.1 * one, one, one),
        "full": NormalWisharts(mean, 0.1 * one, (dim + 1.0) * one, torch.eye(dim)[None]),
        "Bernoulli": Betas(0.5 * torch.ones(1, dim), 0.5 * torch.ones(1, dim)),
    }


def random_rows(seed, missing, binary=False):
    """5 to 40 rows of 1 to 5 columns from 3 correlated clusters, with 30% missing at random if ``missing``."""
    generator = torch.Generator().manual_seed(seed)
    n = int(torch.randint(5, 41, (1,), generator=generator))
    d = int(torch.randint(1, 6, (1,), generator=generator))
    options = {"generator": generator, "dtype": torch.float64}
    x = torch.randn(n, d, **options) @ torch.randn(d, d, **options)
    x += 4 * torch.randn(3, d, **options)[torch.randint(3, (n,), generator=generator)]
    if binary:
        x = (x > 0).double()
    return x.masked_fill(torch.rand(n, d, **options) < 0.3, NAN) if missing else x


def random_mixture(kind, seed, dim=4, classes=3):
    """A mixture with random parameters."""
    options = {"generator": torch.Generator().manual_seed(seed), "dtype": torch.float64}
    weights, means = torch.rand(classes, **options), torch.randn(classes, dim, **options)
    copies = 1 if "shared" in kind else classes
    variance = 0.2 + torch.rand(copies, 1 if "isotropic" in kind else dim, **options)
    if kind == "Bernoulli":
        return Mixture(weights, Bernoullis(means.sigmoid()))
    if "factors" in kind:
        return Mixture(weights, FactorAnalysers(torch.randn(classes, dim, 2, **options), means, variance))
    if "full" in kind:
        tril = torch.randn(copies, dim, dim, **options).tril(-1) + torch.diag_embed(variance)
        return Mixture(weights, FullGaussians(means, tril))
    return Mixture(weights, DiagonalGaussians(means, variance))


def quiet_fit(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScaleFloorWarning)
        return fit_mixture(*arguments, **options)


def covariances(components):
    """(C, D, D), written out from the parameters."""
    classes = len(components.means)
    if isinstance(components, FullGaussians):
        return (components.scale_tril @ components.scale_tril.mT).expand(classes, -1, -1)
    if isinstance(components, FactorAnalysers):
        noise = torch.diag_embed(components.noise.expand_as(components.means))
        return components.loadings @ components.loadings.mT + noise
    return torch.diag_embed(components.variance.expand_as(components.means))


def marginal_joint(weights, means, matrices, x):
    """ln p(c, x_observed), (N, C), row by row from the marginals of the Gaussians."""
    out = []
    for row in x:
        seen = ~row.isnan()
        terms = [weight.log() for weight in weights]
        if seen.any():
            for c in range(len(terms)):
                distribution = MultivariateNormal(
                    means[c][seen], matrices[c][seen][:, seen], validate_args=False
                )
                terms[c] = terms[c] + distribution.log_prob(row[seen])
        out.append(torch.stack(terms))
    return torch.stack(out)


def independent_joint(mixture, x):
    if isinstance(mixture.components, Bernoullis):
        probs = mixture.components.probs
        of_entry = torch.where(x[:, None] == 1, probs, 1 - probs).masked_fill(x[:, None].isnan(), 1.0)
        return mixture.weights.log() + of_entry.log().sum(-1)
    return marginal_joint(mixture.weights, mixture.components.means, covariances(mixture.components), x)


# The likelihood ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_likelihood_and_responsibilities_are_those_of_the_marginals(kind):
    mixture = random_mixture(kind, 0)
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = (x > 0).double() if kind == "Bernoulli" else 2 * x
    x = x.masked_fill(torch.rand(60, 4, generator=torch.Generator().manual_seed(2)) < 0.3, NAN)
    x[0] = NAN
    joint = independent_joint(mixture, x)
    assert torch.allclose(mixture.log_likelihood(x), joint.logsumexp(-1), rtol=0, atol=1e-10)
    assert torch.allclose(mixture.responsibilities(x), joint.softmax(-1), rtol=0, atol=1e-10)
    assert mixture.log_likelihood(x)[0] == pytest.approx(0, abs=1e-12)


def test_likelihood_keeps_its_digits_far_from_the_origin():
    """Components of scale 1e-3 at a distance of 1e6: squares expanded about the origin would lose all digits."""
    x = torch.tensor([[1e6 + 1e-3, -1e6]], dtype=torch.float64)
    means = torch.tensor([[1e6, -1e6], [-1e6, 1e6]], dtype=torch.float64)
    mixture = Mixture(torch.ones(2), DiagonalGaussians(means, torch.full((2, 2), 1e-6, dtype=torch.float64)))
    expected = math.log(0.5) - math.log(2 * math.pi * 1e-6) - 0.5 * ((x[0, 0] - 1e6) / 1e-3) ** 2
    assert mixture.log_likelihood(x)[0] == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.parametrize("kind", ["diagonal", "full", "factors"])
def test_imputation_is_the_posterior_mean(kind):
    mixture = random_mixture(kind, 3)
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    x[:, 1], x[:5, 3] = NAN, NAN
    matrices, means = covariances(mixture.components), mixture.components.means
    filled = mixture.impute(x)
    for row, answer, share in zip(x, filled, mixture.responsibilities(x), strict=True):
        o, m = ~row.isnan(), row.isnan()
        expected = 0
        for c in range(3):
            slope = matrices[c][m][:, o] @ torch.linalg.inv(matrices[c][o][:, o])
            expected = expected + share[c] * (means[c][m] + slope @ (row[o] - means[c][o]))
        assert torch.allclose(answer[m], expected, atol=1e-10)
        assert torch.equal(answer[o], row[o])


def test_posterior_of_factors_is_that_of_the_joint_gaussian():
    components = random_mixture("factors", 5).components
    x = torch.randn(10, 4, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    x[0, 1] = NAN
    x[1] = NAN
    means, spreads = components.posterior(x)
    assert means.shape == (10, 3, 2) and spreads.shape == (10, 3, 2, 2)
    for n, c in itertools.product(range(10), range(3)):
        seen = ~x[n].isnan()
        loadings = components.loadings[c][seen]
        gain = loadings.T @ torch.linalg.inv(covariances(components)[c][seen][:, seen])
        assert torch.allclose(means[n, c], gain @ (x[n] - components.means[c])[seen], atol=1e-10)
        assert torch.allclose(spreads[n, c], torch.eye(2) - gain @ loadings, atol=1e-10)


# EM -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "theirs"), [("isotropic", "spherical"), ("diagonal", "diag"), ("full", "full"),
                                              ("full, shared", "tied")])  # fmt: skip
def test_em_takes_the_steps_of_scikit_learn(kind, theirs):
    x = torch.as_tensor(load_iris().data, dtype=torch.float64)
    start = KINDS[kind]([x], 3, 0)
    precisions = torch.linalg.inv(covariances(start.components))
    initial = {
        "spherical": precisions[:, 0, 0],
        "diag": precisions.diagonal(dim1=-2, dim2=-1),
        "full": precisions,
        "tied": precisions[0],
    }
    peer = GaussianMixture(
        3,
        covariance_type=theirs,
        weights_init=start.weights.numpy(),
        means_init=start.components.means.numpy(),
        precisions_init=initial[theirs].numpy(),
        reg_covar=0,
        tol=0,
        max_iter=12,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        peer.fit(x.numpy())
    fitted, history = fit_mixture([x[:70], x[70:]], start, iterations=12, tolerance=0)
    assert len(history) == 13
    assert history[-1].log_likelihood == pytest.approx(peer.score(x.numpy()), abs=1e-9)
    assert np.allclose(fitted.log_likelihood(x), peer.score_samples(x.numpy()), rtol=0, atol=1e-7)
    assert np.allclose(fitted.responsibilities(x), peer.predict_proba(x.numpy()), rtol=0, atol=1e-7)


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("kind", KINDS)
def test_em_never_falls(kind, scale):
    """50 random problems, every second with 30% missing, at the scale of the floor 1e-3 and far above it."""
    for seed in range(50):
        x = random_rows(seed, seed % 2 == 1, kind == "Bernoulli")
        x = x if kind == "Bernoulli" else x * scale
        _, history = quiet_fit([x[:17], x[17:]], KINDS[kind]([x], 3, seed), iterations=10, tolerance=0)
        for old, new in itertools.pairwise(history):
            assert new.bound_before >= old.bound - 1e-9, (seed, new.iteration, "M step")
            assert new.log_likelihood >= old.log_likelihood - 1e-9, (seed, new.iteration)
            assert new.kl == 0
            if scale == 1:  # beside covariances of 1e8, L(old q) itself is known to fewer digits
                assert new.kl_before >= -1e-9, (seed, new.iteration, "KL")


def test_em_of_factors_never_falls_where_noise_is_tiny_beside_the_factors():
    """Scales of 1e4 beside a floor of 1e-3, long enough to reach it: I + Wᵀψ⁻¹W has a condition of 1e14."""
    for seed in range(8):
        x = 1e4 * random_rows(seed, seed % 2 == 1)
        _, history = quiet_fit([x], KINDS["factors"]([x], 3, seed), iterations=60, tolerance=0)
        for old, new in itertools.pairwise(history):
            assert new.bound >= old.bound - 1e-9, (seed, new.iteration)


@pytest.mark.parametrize("fixed", [["weights"], ["means"], ["covariance"], ["weights", "covariance"]])
@pytest.mark.parametrize("kind", ["isotropic", "diagonal", "full", "full, shared"])
def test_em_holds_what_is_fixed(kind, fixed):
    x = random_rows(3, True)
    start = random_mixture(kind, 1, dim=x.shape[1])
    fitted, history = quiet_fit([x], start, fixed=fixed, iterations=30)
    covariance = covariances(fitted.components), covariances(start.components)
    pairs = {
        "weights": (fitted.weights, start.weights),
        "means": (fitted.components.means, start.components.means),
        "covariance": covariance,
    }
    for name, (after, before) in pairs.items():
        assert torch.equal(after, before) == (name in fixed), name
    assert all(new.bound >= old.bound - 1e-9 for old, new in itertools.pairwise(history))


@pytest.mark.parametrize("fixed", [["loadings"], ["means"], ["noise"], ["loadings", "means"]])
def test_em_holds_what_is_fixed_of_factors(fixed):
    x = random_rows(3, True)
    start = random_mixture("factors", 1, dim=x.shape[1])
    fitted, history = quiet_fit([x], start, fixed=fixed, iterations=30)
    for name in ("loadings", "means", "noise"):
        same = torch.equal(getattr(fitted.components, name), getattr(start.components, name))
        assert same == (name in fixed), name
    assert all(new.bound >= old.bound - 1e-9 for old, new in itertools.pairwise(history))


@pytest.mark.parametrize("kind", ["isotropic", "diagonal, shared", "full", "full, shared", "factors"])
def test_em_ends_where_the_likelihood_of_the_observed_entries_is_stationary(kind):
    """The gradient of the marginal log-likelihood, by automatic differentiation of another formula, is 0."""
    options = {"generator": torch.Generator().manual_seed(8), "dtype": torch.float64}
    x = torch.randn(80, 3, **options) @ torch.randn(3, 3, **options)
    x[:40] += 6
    x = x.masked_fill(torch.rand(80, 3, **options) < 0.2, NAN)
    fitted, history = quiet_fit([x], KINDS[kind]([x], 2, 0), iterations=5000, tolerance=1e-13)
    assert history[-1].at_floor == 0
    parts = fitted.components
    free = [parts.means.clone().requires_grad_()]
    if isinstance(parts, FullGaussians):
        free.append(parts.scale_tril.clone().requires_grad_())
        matrices = (free[1].tril() @ free[1].tril().mT).expand(2, -1, -1)
    elif isinstance(parts, FactorAnalysers):
        free += [parts.loadings.clone().requires_grad_(), parts.noise.clone().requires_grad_()]
        matrices = free[1] @ free[1].mT + torch.diag_embed(free[2])
    else:
        free.append(parts.variance.clone().requires_grad_())
        matrices = torch.diag_embed(free[1].expand(2, 3))
    marginal_joint(fitted.weights, free[0], matrices, x).logsumexp(-1).mean().backward()
    for parameter in free:
        assert float(parameter.grad.abs().max()) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_bounds_are_those_of_their_definitions(kind):
    """L(old q, new θ) and its KL from their definitions, q(c) enumerated; complete data."""
    x = random_rows(4, False, kind == "Bernoulli")
    start = KINDS[kind]([x], 3, 0)
    new, history = quiet_fit([x], start, iterations=1)
    old = start.responsibilities(x)
    joint = independent_joint(new, x)
    if "factors" in kind:  # z is latent too: L(old q) lies below that of the best q(z | c)
        assert history[1].bound_before <= float((old * (joint - old.log())).sum(-1).mean()) + 1e-9
        return
    bound = (old * joint - torch.special.xlogy(old, old)).sum(-1).mean()
    assert history[1].bound_before == pytest.approx(float(bound), abs=1e-9)
    kl = (torch.special.xlogy(old, old) - old * joint.log_softmax(-1)).sum(-1).mean()
    assert history[1].kl_before == pytest.approx(float(kl), abs=1e-9)
    assert history[0].bound_before is None and history[0].kl_before is None


def test_blocks_do_not_matter():
    x = random_rows(5, True)
    start = KINDS["full"]([x], 2, 0)
    one, many = (fit_mixture(rows, start, iterations=5)[1] for rows in ([x], list(x.split(3))))
    assert one[-1].bound == pytest.approx(many[-1].bound, abs=1e-12)


def test_starts_come_from_their_seed_alone():
    x = random_rows(6, True)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, again = (start_gaussians([x], 3, seed=5) for _ in range(2))
    assert torch.equal(first.components.means, again.components.means)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("kind", ["isotropic", "diagonal", "full", "factors"])
def test_em_finds_separated_clusters(kind):
    """3 clusters of scale 1, more than 20 apart. A mean of about 200 rows × 80% observed has a standard error of
    0.08, so 12 means all lie within 0.5 (6 standard errors) but for one seed in 4e7; this seed is fixed."""
    options = {"generator": torch.Generator().manual_seed(9), "dtype": torch.float64}
    centres = torch.tensor([[0, 0, 0, 0], [20, 0, 20, 0], [0, 20, 0, 20]], dtype=torch.float64)
    x = torch.randn(600, 4, **options) + centres.repeat(200, 1)
    x = x.masked_fill(torch.rand(600, 4, **options) < 0.2, NAN)
    fitted, _ = quiet_fit([x], KINDS[kind]([x], 3, 0), tolerance=1e-7)
    means = fitted.components.means
    means = means[torch.cdist(centres, means).argmin(-1)]
    assert float((means - centres).abs().max()) < 0.5
    assert torch.allclose(fitted.weights, torch.full((3,), 1 / 3, dtype=torch.float64), atol=0.02)
    assert float((covariances(fitted.components) - torch.eye(4)).abs().max()) < 1


def test_em_finds_bernoulli_classes():
    """Two classes, opposite in 40 entries with p = 0.1: a probability of 300 rows has a standard error of 0.018, so
    80 of them all lie within 0.11 (6 standard errors) but for one seed in 6e6; this seed is fixed."""
    generator = torch.Generator().manual_seed(10)
    probs = torch.full((2, 40), 0.1, dtype=torch.float64)
    probs[0, ::2], probs[1, 1::2] = 0.9, 0.9
    x = torch.bernoulli(probs.repeat(300, 1), generator=generator)
    fitted, _ = fit_mixture([x], start_bernoullis([x], 2, seed=0))
    estimate = fitted.components.probs
    estimate = estimate[torch.cdist(probs, estimate).argmin(-1)]
    assert float((estimate - probs).abs().max()) < 0.11


# Floors and degenerate data -------------------------------------------------------------------------------


def test_full_floor_is_the_constrained_maximum():
    """No covariance with scales above the floor explains the rows better than the one that EM gives."""
    options = {"generator": torch.Generator().manual_seed(11), "dtype": torch.float64}
    x = torch.randn(30, 3, **options) * torch.tensor([1.0, 0.5, 0.01])
    with pytest.warns(ScaleFloorWarning, match="1 values of covariance are at their floor"):
        fitted, history = fit_mixture([x], start_gaussians([x], 1, seed=0, min_scale=0.1))
    assert history[-1].at_floor == 1
    best = history[-1].log_likelihood
    assert float(torch.linalg.svdvals(fitted.components.scale_tril).min()) == pytest.approx(0.1, rel=1e-12)
    for _ in range(200):
        factor = fitted.components.scale_tril[0] + 0.02 * torch.randn(3, 3, **options)
        left, scales, _ = torch.linalg.svd(factor)
        matrix = (left * scales.clamp_min(0.1).square()) @ left.T
        other = MultivariateNormal(fitted.components.means[0], matrix).log_prob(x).mean()
        assert float(other) <= best + 1e-12


ROW = torch.tensor([[1.0, -2.0, 3.0]], dtype=torch.float64)
DEGENERATE = {
    "one row": ROW,
    "duplicates": ROW.repeat(10, 1),
    "constant column": torch.cat(
        [random_rows(12, False)[:, :1], torch.ones(len(random_rows(12, False)), 1)], 1
    ),
    "duplicated column": random_rows(12, False)[:, [0, 0]],
    "fewer rows than columns": torch.randn(3, 10, generator=torch.Generator().manual_seed(0)),
    "fewer rows than classes": torch.cat([ROW, -ROW]),
    "a row missing": torch.cat([ROW, ROW + 1, torch.full_like(ROW, NAN)]),
    "a column missing": torch.cat([ROW, ROW + 1, ROW + 3]).masked_fill(
        torch.tensor([True, False, False]), NAN
    ),
    "all missing": torch.full((4, 2), NAN),
    "far apart": torch.cat([ROW * 1e8, -ROW * 1e8, ROW, ROW + 1e-8]),
    "far from the origin": torch.cat([ROW, ROW + 1, ROW - 1]) + 1e9,
}


@pytest.mark.parametrize("rows", DEGENERATE)
@pytest.mark.parametrize("kind", KINDS)
def test_degenerate_data_give_finite_numbers(kind, rows):
    x = DEGENERATE[rows].double()
    if kind == "Bernoulli":
        x = (x > 0).double().masked_fill(x.isnan(), NAN)
    fitted, history = quiet_fit([x], KINDS[kind]([x], 3, 0), iterations=50)
    assert fitted.log_likelihood(x).isfinite().all()
    assert torch.allclose(fitted.responsibilities(x).sum(-1), torch.ones(len(x), dtype=torch.float64))
    assert all(new.bound >= old.bound - 1e-9 for old, new in itertools.pairwise(history))


def test_a_class_without_rows_stays_as_it_was():
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    means = torch.tensor([[0.0, 0.0], [1e6, 1e6]])
    for components in (
        DiagonalGaussians(means, torch.ones(2, 2)),
        FullGaussians(means, torch.eye(2).repeat(2, 1, 1)),
        FactorAnalysers(torch.ones(2, 2, 1), means, torch.ones(2, 2)),
    ):
        fitted, history = fit_mixture([x], Mixture(torch.ones(2), components), iterations=20)
        assert history[-1].counts == (20, 0)
        assert fitted.weights.tolist() == [1, 0]
        assert torch.equal(fitted.components.means[1], means[1].double())
        assert torch.allclose(covariances(fitted.components)[1], covariances(components)[1], atol=1e-12)


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ([], DataError, "at least one row"),
        ([torch.zeros(0, 2)], DataError, "at least one row"),
        ([torch.zeros(3, 5)], ShapeError, r"shape \(B, 2\); got \(3, 5\)"),
        ([torch.tensor([[math.inf, 0.0]])], DataError, "infinite"),
        ([torch.full((2, 2), 1e200, dtype=torch.float64)], DataError, "rescale the columns"),
    ],
)
def test_unusable_rows_are_refused_in_words(rows, error, words):
    with pytest.raises(error, match=words):
        fit_mixture(rows, random_mixture("diagonal", 0, dim=2))
    if "infinite" in words or "one row" in words:
        with pytest.raises(error, match=words):
            start_gaussians(rows, 2, seed=0)


def test_wrong_declarations_are_refused_in_words():
    x = torch.zeros(4, 2)
    mixture = random_mixture("diagonal", 0, dim=2)
    with pytest.raises(DeclarationError, match="weights, means, covariance; got .'bias'"):
        fit_mixture([x], mixture, fixed=["bias"])
    with pytest.raises(DataError, match="binarize"):
        fit_mixture([x + 0.5], random_mixture("Bernoulli", 0, dim=2))
    with pytest.raises(ShapeError, match=r"weights must have shape \(3\)"):
        Mixture(torch.ones(2), mixture.components)
    with pytest.raises(DeclarationError, match="positive sum"):
        Mixture(torch.zeros(3), mixture.components)
    with pytest.raises(DeclarationError, match="min_scale"):
        DiagonalGaussians(torch.zeros(1, 2), torch.ones(1, 2), min_scale=0)
    with pytest.raises(ShapeError, match=r"variance must have shape \(3, 2\); got \(2, 2\)"):
        DiagonalGaussians(torch.zeros(3, 2), torch.ones(2, 2))
    with pytest.raises(DeclarationError, match="lower triangular"):
        FullGaussians(torch.zeros(1, 2), torch.ones(1, 2, 2))
    with pytest.raises(DeclarationError, match="NormalWisharts is no prior for DiagonalGaussians"):
        fit_bayesian_mixture([x], mixture, priors(x)["full"])
    with pytest.raises(DeclarationError, match="above D − 1 = 1"):
        NormalWisharts(torch.zeros(1, 2), torch.ones(1), torch.ones(1), torch.eye(2)[None])


# Variational Bayes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["diagonal", "full", "Bernoulli"])
def test_bound_of_variational_bayes_never_falls(kind):
    """50 random problems, every second with 30% missing."""
    for seed in range(50):
        x = random_rows(seed, seed % 2 == 1, kind == "Bernoulli")
        start = KINDS[kind]([x], 3, seed)
        _, history = fit_bayesian_mixture([x], start, priors(x)[kind], iterations=20, tolerance=0)
        for old, new in itertools.pairwise(history):
            assert new.bound_before >= old.bound - 1e-9, (seed, new.iteration)
            assert new.bound >= new.bound_before - 1e-9, (seed, new.iteration)
        assert history[-1].log_likelihood is None and history[-1].kl is None


def integral(log_density, values, grid):
    """∫ exp(log_density) · values over an even grid, which is exact to rounding for such smooth, vanishing tails."""
    step = math.prod(float(axis[1] - axis[0]) for axis in grid)
    return float((np.exp(log_density) * values).sum() * step)


def test_bound_is_the_integral_that_defines_it():
    """E_q[ln p(x, c, π, μ, λ) − ln q] in one dimension: sums over c, quadrature over π, μ and λ, densities by scipy."""
    x = torch.tensor([[-2.1], [-1.6], [-1.9], [0.4], [1.9], [2.3]], dtype=torch.float64)
    prior = NormalGammas(torch.tensor([[0.3]]), torch.tensor(0.2), torch.tensor(1.5), torch.tensor(0.8))
    start = KINDS["diagonal"]([x], 2, 0)
    fitted, history = fit_bayesian_mixture([x], start, prior, concentration=0.7)
    alpha, q = fitted.concentration.numpy(), fitted.components
    share = fitted.responsibilities(x).numpy()

    u = np.linspace(-60, 60, 24001)  # π = sigmoid(u)
    log_pi, log_rest = -np.logaddexp(0, -u), -np.logaddexp(0, u)

    def log_dirichlet(a):
        return (a[0] - 1) * log_pi + (a[1] - 1) * log_rest - scipy.special.betaln(*a)

    log_q = log_dirichlet(alpha)
    log_ratio = share.sum(0) @ np.stack([log_pi, log_rest]) + log_dirichlet([0.7, 0.7]) - log_q
    total = integral(log_q + log_pi + log_rest, log_ratio, [u])  # dπ = π (1 − π) du
    assert integral(log_q + log_pi + log_rest, 1.0, [u]) == pytest.approx(1, abs=1e-10)

    def log_normal_gamma(t, mu, m, beta, a, b):
        precision = np.exp(t)
        log_normal = scipy.stats.norm.logpdf(mu, m, 1 / np.sqrt(beta * precision))
        return log_normal + scipy.stats.gamma.logpdf(precision, a, scale=1 / b)

    for c in range(2):
        m, beta, a, b = (float(v[c, 0]) for v in (q.means, q.counts, q.shapes, q.rates))
        t = np.linspace(math.log(a / b) - 14, math.log(a / b) + 5, 1201)[:, None]  # λ = exp(t)
        s = np.linspace(-10, 10, 401)[None]  # μ = m + s / √(βλ)
        mu = m + s / np.sqrt(beta * np.exp(t))
        log_q = log_normal_gamma(t, mu, m, beta, a, b)
        log_measure = log_q + t - 0.5 * (math.log(beta) + t)  # dλ dμ = λ / √(βλ) dt ds
        log_ratio = log_normal_gamma(t, mu, 0.3, 0.2, 1.5, 0.8) - log_q
        for row, weight in zip(x[:, 0].numpy(), share[:, c], strict=True):
            log_ratio = log_ratio + weight * scipy.stats.norm.logpdf(row, mu, np.exp(-t / 2))
        assert integral(log_measure, 1.0, [t[:, 0], s[0]]) == pytest.approx(1, abs=1e-7)
        total += integral(log_measure, log_ratio, [t[:, 0], s[0]])
    total -= scipy.special.xlogy(share, share).sum()
    assert history[-1].bound * len(x) == pytest.approx(total, abs=1e-6)


def log_evidence(x, mean, beta, a, b):
    """ln p of one column of rows under a Normal-Gamma prior: a product of Student t predictives."""
    total = 0.0
    for value in x[~np.isnan(x)]:
        scale = math.sqrt(b * (beta + 1) / (a * beta))
        total += scipy.stats.t.logpdf(value, 2 * a, mean, scale)
        b += 0.5 * beta / (beta + 1) * (value - mean) ** 2
        mean, beta, a = (beta * mean + value) / (beta + 1), beta + 1, a + 0.5
    return total


def test_bound_of_one_diagonal_class_is_the_evidence():
    """With C = 1 nothing but the conjugate parameters is latent, so the bound is tight, missing entries included."""
    x = random_rows(7, True)
    prior = NormalGammas(torch.zeros(1, x.shape[1]), torch.tensor(0.3), torch.tensor(2.0), torch.tensor(1.5))
    _, history = fit_bayesian_mixture([x], KINDS["diagonal"]([x], 1, 0), prior)
    exact = sum(log_evidence(column, 0.0, 0.3, 2.0, 1.5) for column in x.T.numpy())
    assert history[-1].bound * len(x) == pytest.approx(exact, abs=1e-8)


def test_bound_of_one_full_class_is_the_evidence():
    """The predictives of a Normal-Wishart are multivariate Student t."""
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    root = torch.tensor([[[1.0, 0, 0], [0.5, 2, 0], [0.3, -0.2, 0.7]]], dtype=torch.float64)
    prior = NormalWisharts(torch.zeros(1, 3), torch.tensor([0.4]), torch.tensor([4.5]), root)
    _, history = fit_bayesian_mixture([x], KINDS["full"]([x], 1, 0), prior)
    mean, beta, nu, matrix = np.zeros(3), float(prior.counts), 4.5, (root[0] @ root[0].T).numpy()
    exact = 0.0
    for row in x.numpy():
        freedom = nu - 2
        shape = matrix * (beta + 1) / (beta * freedom)
        exact += scipy.stats.multivariate_t.logpdf(row, mean, shape, df=freedom)
        matrix = matrix + beta / (beta + 1) * np.outer(row - mean, row - mean)
        mean, beta, nu = (beta * mean + row) / (beta + 1), beta + 1, nu + 1
    assert history[-1].bound * len(x) == pytest.approx(exact, abs=1e-8)


def test_bound_of_one_bernoulli_class_is_the_evidence():
    x = random_rows(9, True, binary=True)
    _, history = fit_bayesian_mixture([x], KINDS["Bernoulli"]([x], 1, 0), priors(x)["Bernoulli"])
    ones, zeros = x.nansum(0).numpy(), (1 - x).nansum(0).numpy()
    exact = (scipy.special.betaln(0.5 + ones, 0.5 + zeros) - scipy.special.betaln(0.5, 0.5)).sum()
    assert history[-1].bound * len(x) == pytest.approx(exact, abs=1e-8)


def test_bound_lies_below_the_evidence_of_all_partitions():
    """ln p(x) of 10 rows in two classes, by enumeration of all 1024 assignments."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(10, 1, generator=generator, dtype=torch.float64)
    x[:5] += 6
    x[0] = NAN
    prior = NormalGammas(torch.zeros(1, 1), torch.tensor(0.1), torch.tensor(2.0), torch.tensor(2.0))
    _, history = fit_bayesian_mixture([x], KINDS["diagonal"]([x], 2, 0), prior, concentration=1.0)
    terms = []
    for assignment in itertools.product([0, 1], repeat=len(x)):
        label = np.array(assignment)
        counts = np.bincount(label, minlength=2)
        term = scipy.special.betaln(1 + counts[0], 1 + counts[1]) - scipy.special.betaln(1, 1)
        term += sum(log_evidence(x.numpy()[label == c, 0], 0.0, 0.1, 2.0, 2.0) for c in range(2))
        terms.append(term)
    gap = scipy.special.logsumexp(terms) - history[-1].bound * len(x)
    # Both labellings of the classes are equally likely, and q has only one of them, which costs ln 2.
    assert math.log(2) - 1e-6 < gap < math.log(2) + 0.7


def test_wishart_and_gamma_agree_in_one_dimension():
    x = random_rows(2, False)[:, :1]
    gamma = NormalGammas(torch.zeros(1, 1), torch.tensor(0.5), torch.tensor(1.5), torch.tensor(2.0))
    wishart = NormalWisharts(
        torch.zeros(1, 1), torch.tensor([0.5]), torch.tensor([3.0]), torch.full((1, 1, 1), 2.0)
    )
    start, full = KINDS["diagonal"]([x], 2, 0), KINDS["full"]([x], 2, 0)
    first, second = (
        fit_bayesian_mixture([x], *parts, tolerance=1e-12)[1][-1]
        for parts in ((start, gamma), (full, wishart))
    )
    assert first.bound == pytest.approx(second.bound, abs=1e-9)


def test_a_sparse_prior_empties_classes_that_are_not_needed():
    """Two clusters at a distance of 16 standard deviations, six classes, a fixed seed."""
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x[::2] += 16
    start = KINDS["full"]([x], 6, 0)
    fitted, history = fit_bayesian_mixture(
        [x], start, priors(x)["full"], concentration=1e-3, iterations=3000, tolerance=1e-10
    )
    assert sorted(round(count) for count in history[-1].counts) == [0, 0, 0, 0, 100, 100]
    assert fitted.point().log_likelihood(x).isfinite().all()


@pytest.mark.parametrize("rows", DEGENERATE)
@pytest.mark.parametrize("kind", ["diagonal", "full", "Bernoulli"])
def test_variational_bayes_of_degenerate_data_gives_finite_numbers(kind, rows):
    x = DEGENERATE[rows].double()
    if kind == "Bernoulli":
        x = (x > 0).double().masked_fill(x.isnan(), NAN)
    fitted, history = fit_bayesian_mixture([x], KINDS[kind]([x], 3, 0), priors(x)[kind], iterations=50)
    assert fitted.responsibilities(x).isfinite().all()
    assert fitted.point().log_likelihood(x).isfinite().all()
    assert all(new.bound >= old.bound - 1e-9 for old, new in itertools.pairwise(history))


# The layer ------------------------------------------------------------------------------------------------


def test_exact_imports_only_torch_errors_warnings_and_itself():
    folder = Path(sys.modules["pyro_lfm.exact.mixtures.mixture"].__file__).parents[1]
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                own = name == "torch" or name.startswith(
                    ("pyro_lfm.errors", "pyro_lfm.warning_kinds", "pyro_lfm.exact")
                )
                assert own or name.split(".")[0] in sys.stdlib_module_names, (path.name, name)
