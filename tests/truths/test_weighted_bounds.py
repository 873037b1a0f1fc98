"""Bounds made of importance weights, against closed forms on linear Gaussian models."""

import math

import pyro
import pytest
import torch

import pyro_lfm as lfm

ROWS, FACTORS, COLUMNS = 200, 2, 5


def parameters():
    """W, b and the variances of the noise."""
    draw = (torch.randn(COLUMNS, FACTORS), torch.randn(COLUMNS), 0.5 + torch.rand(COLUMNS))
    return [value.double() for value in draw]


def linear(seed=0, exact=False):
    """A linear Gaussian model, rows from it, and a guide: its exact posterior, or one that is somewhat off."""
    torch.manual_seed(seed)
    weight, bias, noise = parameters()
    model = lfm.Model(
        z=lfm.StandardNormal(FACTORS),
        x=lfm.Gaussian(
            COLUMNS,
            mean=lfm.Linear(weight=lfm.Fixed(weight), bias=lfm.Fixed(bias)),
            covariance=lfm.Diagonal(lfm.Fixed(noise)),
        ),
    ).double()
    covariance = torch.linalg.inv(torch.eye(FACTORS, dtype=torch.float64) + weight.T / noise @ weight)
    gain = covariance @ weight.T / noise
    if not exact:
        gain, covariance = 0.8 * gain, 1.5 * covariance
    guide = lfm.Guide(
        model,
        z=lfm.Gaussian(
            mean=lfm.Linear(weight=lfm.Learned(gain), bias=lfm.Learned(-gain @ bias)),
            covariance=lfm.Full(lfm.Learned(covariance)),
        ),
    ).double()
    return model, guide, model.sample(ROWS, seed=seed)["x"]


def exact_log_p(x, seed=0):
    torch.manual_seed(seed)
    weight, bias, noise = parameters()
    covariance = weight @ weight.T + torch.diag(noise)
    return torch.distributions.MultivariateNormal(bias, covariance).log_prob(x)


def test_more_draws_make_a_higher_bound_and_none_is_above_log_p():
    """Means over 200 rows and 20 repeats; each comparison allows 4 standard errors of its difference."""
    model, guide, x = linear()
    exact = exact_log_p(x)
    means = {}
    for draws in (1, 5, 50):
        objective = lfm.ImportanceWeightedELBO(draws)
        torch.manual_seed(1)
        means[draws] = torch.stack([objective.bound(model, guide, x).per_row.detach() for _ in range(20)])
    for fewer, more in ((1, 5), (5, 50)):
        gain = (means[more] - means[fewer]).mean(1)
        assert gain.mean() > 4 * gain.std() / math.sqrt(20)
    gap = (exact - means[50]).mean(1)
    assert gap.mean() > -4 * gap.std() / math.sqrt(20) and gap.mean() < 0.1


def test_a_batch_has_the_mean_of_its_rows_bounds():
    """The same draws, handed in by a guide's trace: 1000 rows at once, and each on its own."""
    model, guide, _ = linear()
    x = model.sample(1000, seed=3)["x"]
    objective = lfm.ImportanceWeightedELBO(5)
    torch.manual_seed(0)
    together = objective.bound(model, guide, x)
    torch.manual_seed(0)
    log_w = objective.log_weights(model, guide, lfm.Batch(x))
    alone = torch.stack([log_w[:, n].logsumexp(0) - math.log(5) for n in range(1000)])
    assert torch.allclose(together.per_row, alone, atol=1e-10)
    assert float(together.objective) == pytest.approx(float(alone.mean()), abs=1e-10)


def test_one_row_is_what_pyro_computes():
    model, guide, x = linear()
    torch.manual_seed(0)
    ours = lfm.ImportanceWeightedELBO(7).bound(model, guide, x[:1]).objective
    torch.manual_seed(0)
    theirs = pyro.infer.RenyiELBO(
        alpha=0, num_particles=7, vectorize_particles=True, max_plate_nesting=1
    ).loss(model, guide, x[:1])
    assert float(ours) == pytest.approx(-theirs, abs=1e-8)


@pytest.mark.parametrize("draws", [1, 5])
def test_at_the_exact_posterior_the_bound_is_exact_and_the_landing_sticks(draws):
    model, guide, x = linear(exact=True)
    for row in range(5):
        for objective in (
            lfm.ELBO(gradient="sticking-the-landing", particles=draws),
            lfm.ImportanceWeightedELBO(draws, gradient="sticking-the-landing"),
            lfm.ImportanceWeightedELBO(draws, gradient="doubly-reparametrized"),
        ):
            bound = objective.bound(model, guide, x[row : row + 1])
            assert torch.allclose(bound.per_row, exact_log_p(x[row : row + 1]), atol=1e-5)
            gradients = torch.autograd.grad(bound.objective, list(guide.parameters()))
            assert max(float(g.abs().max()) for g in gradients) < 1e-6


def gradients(objective, repeats, seed):
    """Gradients of φ, one estimate a row: (repeats, numbers)."""
    model, guide, x = linear()
    torch.manual_seed(seed)
    slopes = []
    for _ in range(repeats):
        bound = objective.bound(model, guide, x[:10])
        slopes.append(
            torch.cat([g.flatten() for g in torch.autograd.grad(bound.objective, list(guide.parameters()))])
        )
    return torch.stack(slopes)


def test_the_doubly_reparametrized_gradient_is_unbiased():
    """Against the plain one, 1500 estimates of each, about 15 numbers at 4.5 standard errors: one false alarm in 10⁴."""
    plain = gradients(lfm.ImportanceWeightedELBO(8), 1500, 0)
    double = gradients(lfm.ImportanceWeightedELBO(8, gradient="doubly-reparametrized"), 1500, 1)
    error = (plain.var(0) / len(plain) + double.var(0) / len(double)).sqrt()
    assert ((plain.mean(0) - double.mean(0)).abs() <= 4.5 * error + 1e-12).all()


def test_its_signal_does_not_drown_as_draws_are_added():
    """Rainforth et al. (2018): the plain gradient's ratio of signal to noise falls, this one's does not."""

    def ratio(kind, draws):
        slopes = gradients(lfm.ImportanceWeightedELBO(draws, gradient=kind), 400, draws)
        moving = slopes.std(0) > 0
        return float((slopes.mean(0).abs() / slopes.std(0))[moving].mean())

    double = [ratio("doubly-reparametrized", draws) for draws in (1, 16, 256)]
    plain = [ratio("reparametrized", draws) for draws in (1, 256)]
    assert double[2] > 0.9 * double[0] and double[1] > 0.9 * double[0]
    assert plain[1] < 0.5 * double[2]


def test_renyi_goes_from_the_importance_weighted_bound_to_the_elbo():
    model, guide, x = linear()

    def at(objective):
        torch.manual_seed(0)
        return float(objective.bound(model, guide, x).objective)

    assert at(lfm.RenyiELBO(alpha=0.0, particles=5)) == pytest.approx(
        at(lfm.ImportanceWeightedELBO(5)), abs=1e-9
    )
    elbo = at(lfm.ELBO(particles=5, kl="monte-carlo"))
    assert at(lfm.RenyiELBO(alpha=1.0, particles=5)) == pytest.approx(elbo, abs=1e-9)
    assert at(lfm.RenyiELBO(alpha=1 - 1e-6, particles=5)) == pytest.approx(elbo, abs=1e-3)
    values = [at(lfm.RenyiELBO(alpha=alpha, particles=5)) for alpha in (0.0, 0.3, 0.6, 1.0, 2.0)]
    assert values == sorted(values, reverse=True)


def test_wake_sleep_finds_the_posterior():
    """Its guide ends where the exact posterior is."""
    model, guide, _ = linear()
    model.requires_grad_(False)
    x = model.sample(2000, seed=1)["x"]
    svi = lfm.SVI(
        guide,
        objective=lfm.ReweightedWakeSleep(particles=20),
        epochs=30,
        batch_size=100,
        learning_rate=1e-2,
        schedule=lambda fraction: 1 - fraction,
    )
    fit = lfm.fit(model, x, svi, seed=0, progress=False)
    _, right, _ = linear(exact=True)
    exact = right.factors["z"](x[:50])
    posterior = fit.posterior(x[:50])
    assert (posterior.mean - exact.mean).abs().max() < 0.15 * float(
        exact.covariance_matrix[0].diagonal().max().sqrt()
    )
    assert torch.allclose(posterior.covariance_matrix, exact.covariance_matrix, atol=0.03)
