"""Priors with structure across rows against exact algebra: Gaussian processes in time, and rows in groups."""

import copy
import io

import cases
import pyro
import pytest
import torch
from torch.distributions import MultivariateNormal, constraints

import pyro_lfm as lfm
from pyro_lfm.distributions.product import product

F64 = torch.float64
N, NOISE, SCALE = 20, 0.5, 0.2
TIMES = torch.linspace(0.0, 1.0, N, dtype=F64)
LOADING = torch.tensor([[1.0], [-0.5], [0.7]], dtype=F64)
FEW = torch.linspace(0.0, 1.0, 8, dtype=F64)


def kernel(t, s, scale=SCALE):
    return (-0.5 * ((t[:, None] - s) / scale).square()).exp()


def series(inducing, jitter=1e-8, scale=SCALE):
    """One process, a fixed linear map and fixed noise: the model is Gaussian and its evidence is known."""
    se = lfm.SquaredExponential(torch.tensor(scale, dtype=F64))
    return lfm.Model(
        t=lfm.Covariate(),
        z=lfm.GaussianProcess(1, se, inducing=inducing, given="t", jitter=jitter),
        x=lfm.Gaussian(
            3,
            mean=lfm.Linear(weight=lfm.Fixed(LOADING), bias=lfm.Fixed(0.0)),
            covariance=lfm.Isotropic(lfm.Fixed(NOISE)),
        ),
    )


def data_of(model, n=N, seed=1, t=TIMES):
    return {"t": t, "x": model.sample(n, seed=seed, given={"t": t})["x"]}


def fitc(s, jitter=1e-8, scale=SCALE):
    """A(t) and the variance of z given u, computed without the library."""
    root = torch.linalg.cholesky(kernel(s, s, scale) + jitter * torch.eye(len(s), dtype=F64))
    weights = kernel(TIMES, s, scale) @ torch.linalg.inv(root).mT
    return weights, (1 - weights.square().sum(1)).clamp_min(jitter)


def log_evidence(x, covariance):
    """ln p(x) of all rows together, for a prior covariance of z at the N times."""
    whole = torch.kron(covariance, LOADING @ LOADING.mT) + NOISE * torch.eye(3 * N, dtype=F64)
    return float(MultivariateNormal(torch.zeros(3 * N, dtype=F64), whole).log_prob(x.flatten()))


def exact_guide(model, s, x, scale=SCALE):
    """The posterior in closed form: u is Gaussian, and W and the noise give the message about z."""
    weights, left = fitc(s, scale=scale)
    strength = float((LOADING.mT @ LOADING).squeeze())
    message, noise = (x @ LOADING).squeeze(-1) / strength, NOISE / strength
    total = left + noise
    covariance = torch.linalg.inv(torch.eye(len(s), dtype=F64) + weights.mT @ (weights / total[:, None]))
    mean = covariance @ (weights.mT @ (message / total))
    return lfm.Guide(
        model,
        z=lfm.GaussianMessage(
            mean=lfm.Linear(weight=lfm.Fixed(LOADING.mT / strength), bias=lfm.Fixed(0.0)),
            covariance=lfm.Isotropic(lfm.Fixed(torch.tensor([noise], dtype=F64)), min_scale=0.0),
            given="x",
        ),
        **{
            "z.inducing": lfm.Gaussian(
                mean=lfm.Fixed(mean[:, None]),
                covariance=lfm.Full(lfm.Fixed((covariance + covariance.mT) / 2), min_scale=0.0),
            )
        },
    )


# The process -------------------------------------------------------------------------------------------


def test_the_prior_covariance_is_that_of_the_process():
    """4000 processes at once. The standard error of each of 400 entries is at most √(2/4000) = 0.0224. The tolerance 0.13 is
    5.8 standard errors: false alarm below 4e-6."""
    se = lfm.SquaredExponential(SCALE)
    for inducing in (TIMES, FEW):
        z = lfm.GaussianProcess(4000, se, inducing=inducing, given="t")
        model = lfm.Model(t=lfm.Covariate(), z=z, x=lfm.Gaussian(1, mean=lfm.Linear(), given="z"))
        drawn = model.sample(N, seed=0, given={"t": TIMES})["z"]
        empirical = drawn @ drawn.mT / 4000
        assert (empirical - kernel(TIMES, TIMES)).abs().max() < 0.13
        assert (empirical.diagonal() - 1).abs().max() < 0.13


@pytest.mark.parametrize("inducing", [TIMES, FEW], ids=["all times", "few"])
def test_under_the_exact_posterior_every_draw_of_the_bound_is_the_evidence(inducing):
    model = series(inducing)
    data = data_of(model)
    weights, left = fitc(inducing)
    exact = log_evidence(data["x"], weights @ weights.mT + left.diag())
    if inducing is TIMES:  # the model is the process itself
        assert exact == pytest.approx(log_evidence(data["x"], kernel(TIMES, TIMES)), abs=1e-5)
    guide = exact_guide(model, inducing, data["x"])
    for objective in (lfm.ELBO(kl="monte-carlo"), lfm.ELBO(kl="monte-carlo", particles=3)):
        bound = objective.bound(model, guide, lfm.Batch(data)).per_row.sum()
        assert float(bound.detach()) == pytest.approx(exact, abs=1e-4)
    closed = lfm.ELBO(particles=2000).bound(model, guide, lfm.Batch(data)).per_row.sum()
    assert float(closed.detach()) == pytest.approx(exact, abs=0.5)


def test_the_kernel_learns_by_the_gradient_of_the_evidence():
    """At the exact posterior the bound touches the evidence, so that their gradients in the kernel agree. The path through
    the guide, which holds the same kernel, is included. An estimate by 4000 draws has the standard deviation 0.10, measured
    over 30 seeds. The tolerance is 0.5: false alarm below 1e-6."""
    model = series(FEW)
    data = data_of(model)
    guide = exact_guide(model, FEW, data["x"])

    def exact(log_scale):
        weights, left = fitc(FEW, scale=float(torch.as_tensor(log_scale).exp()))
        return log_evidence(data["x"], weights @ weights.mT + left.diag())

    start = float(torch.tensor(SCALE, dtype=F64).log())
    expected = (exact(start + 1e-4) - exact(start - 1e-4)) / 2e-4
    parameter = model.factors["z"].kernel.log_lengthscale
    for gradient in ("reparametrized", "sticking-the-landing"):
        torch.manual_seed(0)
        bound = lfm.ELBO(particles=4000, gradient=gradient).bound(model, guide, lfm.Batch(data))
        (derivative,) = torch.autograd.grad(bound.objective * N, [parameter])
        assert float(derivative) == pytest.approx(expected, abs=0.5), gradient


def test_a_trained_guide_comes_close_to_the_evidence_from_below_and_predicts_as_the_exact_one():
    """The bound of all 20 rows lies at most 0.5 nats below the evidence. The mean at times between those of the data lies
    within 0.1 of Gaussian process regression, with a process of standard deviation 1. One seed, float64: deterministic."""
    model = series(TIMES)
    model.factors["z"].kernel.requires_grad_(False)
    data = data_of(model)
    guide = lfm.Guide(
        model,
        z=lfm.GaussianMessage(mean=lfm.Linear(), given="x"),
        **{"z.inducing": lfm.Gaussian(covariance=lfm.Full())},
    )
    svi = lfm.SVI(
        guide,
        objective=lfm.ELBO(particles=8),
        steps=400,
        batch_size=N,
        learning_rate=0.05,
        schedule=lfm.schedules.cosine(1.0, 0.0),
        engine="eager",
    )
    fit = lfm.fit(model, data, svi, seed=0, progress=False)
    exact = log_evidence(data["x"], kernel(TIMES, TIMES))
    torch.manual_seed(0)
    bound = lfm.ELBO(particles=4000).bound(model, guide, lfm.Batch(data)).per_row.sum()
    assert exact - 0.5 < float(bound.detach()) < exact + 0.02  # the standard error is about 0.01
    between = (TIMES[1:] + TIMES[:-1]) / 2
    strength = float((LOADING.mT @ LOADING).squeeze())
    message, noise = (data["x"] @ LOADING).squeeze(-1) / strength, NOISE / strength
    gram = kernel(TIMES, TIMES) + noise * torch.eye(N, dtype=F64)
    regression = kernel(between, TIMES) @ torch.linalg.solve(gram, message)
    variance = 1 - (kernel(between, TIMES) * torch.linalg.solve(gram, kernel(TIMES, between)).mT).sum(1)
    hidden = {"t": between, "x": torch.full((N - 1, 3), torch.nan, dtype=F64)}
    distribution = fit.posterior(hidden)["z"]
    # The standard error of a mixture of 256 draws is a sixteenth of the standard deviation.
    assert (distribution.mean.squeeze(-1) - regression).abs().max() < 0.1 + 0.25 * float(
        variance.max().sqrt()
    )
    torch.testing.assert_close(distribution.variance.squeeze(-1), variance, rtol=0.6, atol=0.02)
    with torch.no_grad():
        point = model.factors["z"](between).mean.squeeze(-1)
    assert (point - regression).abs().max() < 0.1


def test_a_process_of_several_numbers_with_a_kernel_for_each_factor():
    """Two factors over locations in the plane, with a length scale each, have the covariances of their kernels."""
    places = torch.rand(9, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    z = lfm.GaussianProcess(
        2, lfm.SquaredExponential([0.3, 3.0]), inducing=places, given=("east", "north"), jitter=1e-8
    )
    model = lfm.Model(
        east=lfm.Covariate(), north=lfm.Covariate(), z=z, x=lfm.Gaussian(2, mean=lfm.Linear(), given="z")
    )
    factor = model.factors["z"]
    eye = torch.eye(9, dtype=F64)
    # The distribution at u = e_m for all m: the columns of A, so that A Aᵀ is the prior covariance.
    u = eye.unsqueeze(-1).expand(9, 9, 2).unsqueeze(1)
    with torch.no_grad():
        distribution = factor.at([places[:, 0], places[:, 1]], torch.arange(9), {"inducing": u})
    assert distribution.batch_shape == (9, 9) and distribution.event_shape == (2,)
    for k, scale in enumerate((0.3, 3.0)):
        apart = (places[:, None] - places).square().sum(-1)
        weights = distribution.mean[..., k].mT
        torch.testing.assert_close(weights @ weights.mT, (-0.5 * apart / scale**2).exp(), rtol=0, atol=1e-5)
    assert float(distribution.stddev.max()) < 2e-4  # no variance is left at the inducing locations


def test_kernels_of_gpytorch_serve():
    kernels = pytest.importorskip("gpytorch").kernels
    own, theirs = lfm.SquaredExponential(SCALE), kernels.RBFKernel()
    theirs.lengthscale = SCALE
    distributions = []
    for k in (own, theirs):
        z = lfm.GaussianProcess(2, k, inducing=FEW, given="t")
        model = lfm.Model(t=lfm.Covariate(), z=z, x=lfm.Gaussian(1, mean=lfm.Linear(), given="z"))
        drawn = {"inducing": torch.randn(8, 2, generator=torch.Generator().manual_seed(0), dtype=F64)}
        distributions.append(model.factors["z"].at([TIMES], torch.arange(N), drawn))
    torch.testing.assert_close(distributions[0].mean, distributions[1].mean, rtol=0, atol=1e-4)
    torch.testing.assert_close(distributions[0].variance, distributions[1].variance, rtol=0, atol=1e-4)
    wavy = kernels.ScaleKernel(
        kernels.PeriodicKernel(batch_shape=torch.Size([2])), batch_shape=torch.Size([2])
    )
    z = lfm.GaussianProcess(2, wavy, inducing=FEW.float(), given="t")
    model = lfm.Model(t=lfm.Covariate(), z=z, x=lfm.Gaussian(3, mean=lfm.Linear(), given="z"))
    guide = lfm.Guide(model, z=lfm.GaussianMessage(network=lfm.MLP(4), given="x"))
    before = {name: p.detach().clone() for name, p in model.factors["z"].kernel.named_parameters()}
    data = data_of(model, t=TIMES.float())
    svi = lfm.SVI(guide, objective=lfm.ELBO(particles=2), steps=2, engine="eager")
    lfm.fit(model, data, svi, seed=0, progress=False)
    after = dict(model.factors["z"].kernel.named_parameters())
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_processes_of_processes_and_of_unknown_places():
    grid = torch.linspace(-2.0, 2.0, 5)
    deep = lfm.Model(
        t=lfm.Covariate(),
        h=lfm.GaussianProcess(1, inducing=grid, given="t"),
        z=lfm.GaussianProcess(2, inducing=lfm.Learned(grid), given="h"),
        x=lfm.Gaussian(3, mean=lfm.Linear(), given="z"),
    )
    message = lambda: lfm.GaussianMessage(network=lfm.MLP(4), given="x")  # noqa: E731
    guide = lfm.Guide(deep, h=message(), z=message())
    assert guide.order.index("h") < guide.order.index("z")
    assert deep.factors["z"].points.value.requires_grad and not deep.factors["h"].points.value.requires_grad
    data = data_of(deep, t=TIMES.float())
    bound = lfm.ELBO(particles=3).bound(deep, guide, lfm.Batch(data))
    gradients = torch.autograd.grad(bound.objective, list(deep.parameters()))
    assert all(gradient.isfinite().all() and gradient.abs().sum() > 0 for gradient in gradients)
    places = lfm.Model(
        w=lfm.StandardNormal(1),
        z=lfm.GaussianProcess(2, inducing=grid, given="w"),
        x=lfm.Gaussian(3, mean=lfm.Linear(), given="z"),
    )
    guide = lfm.Guide(places, w=lfm.Gaussian(network=lfm.MLP(4), given="x"), z=message())
    fit = lfm.fit(places, data["x"], lfm.SVI(guide, steps=2), seed=0, progress=False)
    assert fit.posterior()["z"].mean.shape == (N, 2)


# Rows in groups ----------------------------------------------------------------------------------------

SIZES = torch.tensor([1, 2, 3, 5, 8, 13])
SITE = torch.repeat_interleave(torch.arange(6), SIZES)
SPREAD, MEAN = 0.8, 1.5


def random_intercept():
    """y_ij ~ N(μ + a_i, σ²), a_i ~ N(0, τ²), with fixed parameters."""
    return lfm.Model(
        site=lfm.Covariate(support=constraints.integer_interval(0, 5)),
        a=lfm.PerGroup(
            lfm.Gaussian(1, mean=lfm.Fixed(0.0), covariance=lfm.Isotropic(lfm.Fixed(SPREAD))), given="site"
        ),
        y=lfm.Gaussian(
            1,
            mean=lfm.Linear(weight=lfm.Fixed([[1.0]]), bias=lfm.Fixed(MEAN)),
            covariance=lfm.Isotropic(lfm.Fixed(NOISE)),
        ),
    ).double()


def test_random_intercepts_reach_the_evidence_and_the_shrinkage_formula():
    """The posterior factorises over groups, so the default guide contains it. Sticking the landing has no noise there."""
    model = random_intercept()
    assert {n: tuple(v.shape) for n, v in model.latents.items()} == {"a.groups": (6, 1)}
    y = model.sample(len(SITE), seed=3, given={"site": SITE})["y"]
    member = torch.nn.functional.one_hot(SITE).double()
    covariance = SPREAD * member @ member.mT + NOISE * torch.eye(len(SITE), dtype=F64)
    exact = MultivariateNormal(torch.full((len(SITE),), MEAN, dtype=F64), covariance).log_prob(y.flatten())
    svi = lfm.SVI(
        lfm.Guide(model),
        objective=lfm.ELBO(gradient="sticking-the-landing"),
        steps=300,
        batch_size=len(SITE),
        learning_rate=0.1,
        schedule=lambda done: (1 - done) ** 2,
        engine="eager",
    )
    fit = lfm.fit(model, {"y": y, "site": SITE}, svi, seed=0, progress=False)
    bound = lfm.ELBO(kl="monte-carlo").bound(model, fit.guide, lfm.Batch({"y": y, "site": SITE}))
    assert float(bound.per_row.sum()) == pytest.approx(float(exact), abs=1e-2)
    distribution = fit.posterior()
    assert distribution.mean.shape == (6, 1)
    average = (member.mT @ (y - MEAN)).flatten() / SIZES
    shrunken = SPREAD / (SPREAD + NOISE / SIZES) * average
    assert (distribution.mean.flatten() - shrunken).abs().max() < 1e-2
    torch.testing.assert_close(
        distribution.variance.flatten(), 1 / (1 / SPREAD + SIZES.double() / NOISE), rtol=1e-2, atol=0
    )
    # After the fit a row reads the posterior mean of its group.
    known = model.factors["a"](torch.tensor([4.0, 0.0, 4.0], dtype=F64)).mean
    torch.testing.assert_close(known, distribution.mean[[4, 0, 4]])


def test_groups_count_once_however_small_the_batches():
    """The KL of the groups is outside the plate. The bounds of batches of any size average to the bound of all rows."""
    model = random_intercept()
    y = model.sample(32, seed=3, given={"site": SITE})["y"]
    guide = lfm.Guide(model)
    whole = lfm.ELBO().bound(model, guide, lfm.Batch({"y": y, "site": SITE}))
    values = []
    for part in torch.arange(32).split(8):
        torch.manual_seed(0)
        batch = lfm.Batch({"y": y[part], "site": SITE[part]}, part, total=32)
        values.append(lfm.ELBO().bound(model, guide, batch))
    for bound in values:
        torch.testing.assert_close(bound.kl["a.groups"].mean(), whole.kl["a.groups"].mean())
    torch.manual_seed(0)
    whole = lfm.ELBO().bound(model, guide, lfm.Batch({"y": y, "site": SITE}))
    mean = torch.stack([bound.objective for bound in values]).mean()
    torch.testing.assert_close(mean, whole.objective)


def test_draws_side_by_side_are_the_draws_one_by_one_and_rows_of_a_group_agree():
    model = cases.grouped_rows()
    rows = cases.rows_of(model)
    groups = torch.randn(3, 1, 3, 2)
    z = torch.randn(3, cases.N, cases.K)
    factor = model.factors["g"]
    many = factor.at([rows["site"]], torch.arange(cases.N), {"groups": groups}).value
    assert many.shape == (3, cases.N, 2)
    for s in range(3):
        one = factor.at([rows["site"]], torch.arange(cases.N), {"groups": groups[s, 0]}).value
        torch.testing.assert_close(many[s], one)
        torch.testing.assert_close(one, groups[s, 0][rows["site"].long()])
    distribution = model.factors["x"](many, z)
    assert distribution.batch_shape == (3, cases.N)


def test_the_population_is_learned():
    """τ², learned with 60 groups integrated out, is within 25% of the variance of their true values. One seed."""
    count, per = 60, 10
    site = torch.arange(count).repeat_interleave(per)
    stream = torch.Generator().manual_seed(0)
    truth = 2.0 * torch.randn(count, generator=stream)
    y = (truth[site] + 0.5 * torch.randn(len(site), generator=stream)).unsqueeze(-1)
    model = lfm.Model(
        site=lfm.Covariate(support=constraints.integer_interval(0, count - 1)),
        a=lfm.PerGroup(lfm.Gaussian(1), given="site"),
        y=lfm.Gaussian(1, mean=lfm.Linear(weight=lfm.Fixed([[1.0]]), bias=lfm.Fixed(0.0))),
    )
    svi = lfm.SVI(lfm.Guide(model), steps=250, batch_size=600, learning_rate=0.1, engine="eager")
    fit = lfm.fit(model, {"y": y, "site": site}, svi, seed=0, progress=False)
    prior = model.factors["a"].prior()
    assert float(prior.variance.detach()) == pytest.approx(float(truth.var()), rel=0.25)
    error = fit.posterior().mean.detach().flatten() - truth
    assert float(error.square().mean().sqrt()) < 0.25


# The guide that starts from the prior ------------------------------------------------------------------


def test_the_product_of_two_gaussians_is_their_product():
    stream = torch.Generator().manual_seed(0)
    numbers = [torch.randn(4, 2, 3, generator=stream, dtype=F64) for _ in range(2)]
    scales = [torch.rand(4, 2, 3, generator=stream, dtype=F64) + 0.1 for _ in range(2)]
    prior, message = (
        pyro.distributions.Normal(loc, scale).to_event(2) for loc, scale in zip(numbers, scales, strict=True)
    )
    distribution = product(prior, message)
    assert distribution.batch_shape == (4,) and distribution.event_shape == (2, 3)
    z = torch.randn(50, 4, 2, 3, generator=stream, dtype=F64)
    constant = distribution.log_prob(z) - prior.log_prob(z) - message.log_prob(z)
    torch.testing.assert_close(constant, constant[:1].expand_as(constant))
    observed = torch.tensor([True, False, True, True])
    masked = product(prior, message, observed)
    torch.testing.assert_close(masked.mean[1], prior.mean[1])
    torch.testing.assert_close(masked.mean[0], distribution.mean[0])


OBJECTIVES = sorted(set(cases.OBJECTIVES) - {"annealed", "beta", "cyclical", "renyi-above-one", "free-bits"})


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", cases.MESSAGES)
def test_every_objective_serves_messages(name, objective):
    model = cases.MODELS[name]()
    guide = cases.message_guide(model)
    svi = lfm.SVI(guide, objective=cases.OBJECTIVES[objective](), steps=2, batch_size=6, engine="eager")
    if objective == "wake-sleep":
        words = {"gaussian-process": "z.inducing", "grouped-rows": "g.groups"}.get(name, "made of the model")
        with pytest.raises(lfm.DeclarationError, match=words):
            lfm.fit(model, cases.rows_of(model), svi, seed=0, progress=False)
        return
    fit = lfm.fit(model, cases.rows_of(model), svi, seed=0, progress=False)
    assert torch.tensor([record["bound"] for record in fit.history]).isfinite().all()


@pytest.mark.parametrize("name", cases.MESSAGES)
def test_messages_keep_the_contract_of_guides(name):
    model = cases.MODELS[name]()
    guide = cases.message_guide(model)
    lfm.testing.check_guide(guide, model)
    assert "prior × GaussianMessage" in lfm.describe(model, guide)
    batch = lfm.Batch(cases.rows_of(model))
    before = [p.detach().clone() for p in (*model.parameters(), *guide.parameters())]

    def priors_of(guide):
        return torch.nn.ModuleList([guide.factors[name].prior for name in guide.made_of_priors])

    def bound(*pair):
        torch.manual_seed(3)
        return lfm.ELBO().bound(*pair, batch).per_row.detach()

    expected = bound(model, guide)
    saved = io.BytesIO()
    torch.save({"model": model.state_dict(), "guide": guide.state_dict()}, saved)
    saved.seek(0)
    loaded = torch.load(saved, weights_only=True)
    twin = cases.MODELS[name]()
    twins = twin, cases.message_guide(twin)
    twins[0].load_state_dict(loaded["model"])
    twins[1].load_state_dict(loaded["guide"])
    assert torch.equal(bound(*twins), expected)
    copies = copy.deepcopy(model), copy.deepcopy(guide)
    assert torch.equal(bound(*copies), expected)
    # In a run the copy has its model's priors; by the run it is not changed.
    held, own = ({id(p) for p in part.parameters()} for part in (copies[0], priors_of(copies[1])))
    bound_to = copies[1].bound_to(copies[0])
    assert all(id(p) in held for p in priors_of(bound_to).parameters()), (
        "the copy's priors are not its model's"
    )
    assert not own & held
    pyro.clear_param_store()
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), pyro.infer.Trace_ELBO())
    assert torch.tensor(svi.step(batch)).isfinite()
    after = [*model.parameters(), *guide.parameters()]
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    pyro.clear_param_store()


def test_gradients_pass_through_the_prior_that_the_guide_holds():
    """At any q the gradient in a parameter that model and guide share equals differences of the bound at the same noise."""
    model = cases.gaussian_process().double()
    guide = cases.message_guide(model)
    batch = lfm.Batch({name: value.double() for name, value in cases.rows_of(model).items()})
    parameter = model.factors["z"].kernel.log_lengthscale

    def bound():
        torch.manual_seed(0)
        return lfm.ELBO().bound(model, guide, batch).objective

    (derivative,) = torch.autograd.grad(bound(), [parameter])
    values = []
    for step in (1e-5, -2e-5):
        with torch.no_grad():
            parameter.add_(step)
            values.append(float(bound()))
    assert float(derivative) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5)


def test_rows_without_data_have_the_prior_and_rows_with_some_data_do_not():
    model = series(FEW)
    data = data_of(model)
    guide = exact_guide(model, FEW, data["x"])
    gaps = data["x"].clone()
    gaps[3] = torch.nan
    gaps[4, 0] = torch.nan
    values = {"z.inducing": torch.randn(8, 1, dtype=F64)}
    batch = lfm.Batch({"t": TIMES, "x": gaps})
    distribution = guide.distribution("z", values, batch)
    prior = model.factors["z"].at([TIMES], torch.arange(N), {"inducing": values["z.inducing"]})
    torch.testing.assert_close(distribution.mean[3], prior.mean[3])
    torch.testing.assert_close(distribution.stddev[3], prior.stddev[3])
    assert (distribution.stddev < prior.stddev * (1 - 1e-9)).flatten().nonzero().flatten().tolist() == [
        n for n in range(N) if n != 3
    ]


# What is refused ---------------------------------------------------------------------------------------

LABEL = {"site": lfm.Covariate(support=constraints.integer_interval(0, 2))}
X = {"x": lfm.Gaussian(2, mean=lfm.Linear())}
REFUSED = {
    "no place": (lambda: lfm.GaussianProcess(1, inducing=[0.0, 1.0]), "needs its time"),
    "no inducing": (lambda: lfm.GaussianProcess(1, given="t"), "inducing must be locations"),
    "a number of them": (
        lambda: lfm.GaussianProcess(1, inducing=20, given="t"),
        "inducing must be locations",
    ),
    "a function": (
        lambda: lfm.GaussianProcess(1, lambda t, s: t, inducing=[0.0], given="t"),
        "kernel: expected",
    ),
    "a network": (
        lambda: lfm.GaussianProcess(1, torch.nn.Linear(1, 1), inducing=[0.0], given="t"),
        "Linear failed",
    ),
    "kernels of more factors": (
        lambda: lfm.GaussianProcess(2, lfm.SquaredExponential([1.0] * 3), inducing=[0.0], given="t"),
        "K=2",
    ),
    "a scale of 0": (lambda: lfm.SquaredExponential(0.0), "lengthscale must be above 0"),
    "locations in a plane": (
        lambda: lfm.Model(
            t=lfm.Covariate(), z=lfm.GaussianProcess(1, inducing=torch.zeros(3, 2), given="t"), **X
        ),
        "must have 1 columns, one per number of t; got 2",
    ),
    "groups of a network": (lambda: lfm.PerGroup(lfm.MLP(3), given="site"), "prior of PerGroup must be"),
    "no groups": (lambda: lfm.PerGroup(lfm.StandardNormal(2)), "needs the group of each row"),
    "groups by numbers": (
        lambda: lfm.Model(s=lfm.Covariate(), g=lfm.PerGroup(lfm.StandardNormal(2), given="s"), **X),
        "integer_interval",
    ),
    "groups of labels": (
        lambda: lfm.Model(**LABEL, g=lfm.PerGroup(lfm.Bernoulli(2), given="site"), **X),
        "continuous values",
    ),
    "a message as likelihood": (
        lambda: lfm.Model(z=lfm.StandardNormal(2), x=lfm.GaussianMessage(2, mean=lfm.MLP(3))),
        "is for guides",
    ),
    "a message with a full covariance": (
        lambda: lfm.GaussianMessage(covariance=lfm.Full()),
        "must be Diagonal or Isotropic",
    ),
    "a message to a Laplace prior": (
        lambda: lfm.Guide(lfm.Model(z=lfm.Laplace(2), **X), z=lfm.GaussianMessage(network=lfm.MLP(3))),
        "this prior is Laplace",
    ),
    "a message in a program by hand": (
        lambda: lfm.Guide(
            cases.SharedScale(), scale=lfm.Gaussian(), z=lfm.GaussianMessage(network=lfm.MLP(3))
        ),
        "prior of a declared factor",
    ),
    "closed forms": (
        lambda: lfm.fit(random_intercept(), {"y": torch.zeros(6, 1), "site": torch.arange(6)}, lfm.EM()),
        "lfm.EM cannot serve",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_impossible_declarations_are_refused_in_words(case):
    make, message = REFUSED[case]
    with pytest.raises((lfm.DeclarationError, lfm.ShapeError), match=message):
        make()
