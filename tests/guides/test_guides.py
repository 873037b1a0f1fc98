"""Guides with factors that read latents, products of experts, refined guides, and Pyro's joint automatic guides."""

import copy

import cases
import pyro
import pyro.distributions as dist
import pytest
import torch
from native_code import agree
from pyro.infer.autoguide import AutoDelta, AutoLowRankMultivariateNormal, AutoMultivariateNormal, AutoNormal

import pyro_lfm as lfm


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


# Wired among the latents -----------------------------------------------------------------------------------


def bottom_up(model):
    """q(z1 | x) q(z2 | z1)."""
    z1 = lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(6), given="x")
    return lfm.Guide(model, z1=z1, z2=lfm.Gaussian(network=lfm.MLP(6), given="z1"))


def ladder(model):
    """q(z2 | x) q(z1 | x, z2), from the top down."""
    z1 = lfm.Gaussian(network=lfm.MLP(6), given=("x", "z2"))
    return lfm.Guide(model, z1=z1, z2=lfm.Gaussian(network=lfm.MLP(6), given="x"))


STRUCTURES = {"bottom-up": bottom_up, "ladder": ladder}


@pytest.mark.parametrize("objective", cases.OBJECTIVES)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_guides_wired_among_the_latents_serve_every_objective(structure, objective):
    model = cases.two_layers()
    guide = STRUCTURES[structure](model)
    svi = lfm.SVI(guide, objective=cases.OBJECTIVES[objective](), steps=3, batch_size=6)
    before = [p.detach().clone() for p in guide.parameters()]
    fit = lfm.fit(model, cases.rows_of(model), svi, seed=0, progress=False)
    assert torch.tensor([record["bound"] for record in fit.history]).isfinite().all()
    assert all(not torch.equal(a, b) for a, b in zip(before, guide.parameters(), strict=True))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_guides_wired_among_the_latents_are_recorded_and_keep_the_contract(structure, replay):  # noqa: F811
    def make():
        model = cases.two_layers()
        return model, STRUCTURES[structure](model)

    _, fit = agree(make, cases.rows_of)
    distributions = fit.posterior()
    for name, latent in fit.model.latents.items():
        assert (
            distributions[name].batch_shape == (cases.N,) and distributions[name].event_shape == latent.shape
        )
        assert distributions[name].log_prob(distributions[name].sample()).isfinite().all()
    lfm.testing.check_guide(fit.guide, fit.model)
    # A KL is closed form only where nothing that the prior reads was drawn knowing the latent.
    words = lfm.describe(fit.model, fit.guide)
    if structure == "bottom-up":
        assert "q(z1 | x) q(z2 | z1)" in words and "KL z2: closed form" in words
        assert "KL z1: Monte Carlo (its prior may read z2, which the guide may draw knowing z1)" in words
    else:
        assert "q(z2 | x) q(z1 | x, z2)" in words
        assert "KL z1: closed form" in words and "KL z2: closed form" in words


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_posterior_of_a_latent_that_reads_another_has_the_moments_of_joint_draws(structure):
    """400 draws against a mixture of 256: five standard errors of both, 24 or 36 numbers, false alarm below 1e-4."""
    model = cases.two_layers()
    guide = STRUCTURES[structure](model)
    fit = lfm.fit(model, cases.rows_of(model), lfm.SVI(guide, steps=5), seed=0, progress=False)
    draws = fit.sample_posterior(draws=400)
    name = "z2" if structure == "bottom-up" else "z1"
    distribution, seen = fit.posterior()[name], draws[name]
    error = seen.std(0) * (1 / 400 + 1 / 256) ** 0.5
    assert ((distribution.mean - seen.mean(0)).abs() < 5 * error).all()


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_bound_with_closed_forms_and_one_from_draws_alone_agree(structure):
    """20,000 draws of each row: within five of their standard errors, 12 rows, false alarm below 1e-5."""
    model = cases.two_layers()
    guide, batch = STRUCTURES[structure](model), lfm.Batch(cases.rows_of(model))
    estimates = []
    for kl in ("auto", "monte-carlo"):
        with torch.no_grad():
            bounds = [lfm.ELBO(particles=500, kl=kl).bound(model, guide, batch).per_row for _ in range(40)]
        estimates.append(torch.stack(bounds))
    error = sum(bounds.var(0) / 40 for bounds in estimates).sqrt()
    assert ((estimates[0].mean(0) - estimates[1].mean(0)).abs() < 5 * error).all()


# Products of experts ---------------------------------------------------------------------------------------


class Views:
    """Views x = A z + noise and y = B z + noise of a standard normal z, in float64, and its exact posterior."""

    def __init__(self, loadings):
        self.loadings, self.noise = loadings, {"x": 0.5, "y": 2.0}  # variances
        self.model = lfm.Model(
            z=lfm.StandardNormal(2),
            **{
                name: lfm.Gaussian(
                    len(weight),
                    mean=lfm.Linear(weight=lfm.Fixed(weight), bias=lfm.Fixed(1.0)),
                    covariance=lfm.Isotropic(lfm.Fixed(torch.tensor(self.noise[name]).double())),
                )
                for name, weight in loadings.items()
            },
        ).double()

    def precision(self, name):
        return self.loadings[name].T @ self.loadings[name] / self.noise[name]

    def posterior(self, rows):
        """Mean (N, K) and covariance (K, K) given the views in ``rows``."""
        pull = sum((value - 1) @ self.loadings[name] / self.noise[name] for name, value in rows.items())
        covariance = torch.linalg.inv(torch.eye(2).double() + sum(self.precision(name) for name in rows))
        return pull @ covariance, covariance

    def log_likelihood(self, rows):
        """log p of the views in ``rows``, (N,)."""
        weight = torch.cat([self.loadings[name] for name in rows])
        noise = torch.cat([torch.full((len(self.loadings[n]),), self.noise[n]) for n in rows]).double()
        distribution = dist.MultivariateNormal(
            torch.ones(len(noise)).double(), weight @ weight.T + noise.diag()
        )
        return distribution.log_prob(torch.cat([*rows.values()], -1))


def test_a_product_of_experts_is_the_exact_posterior_of_any_subset_of_views():
    views = Views({"x": torch.randn(4, 2).double(), "y": torch.randn(3, 2).double()})
    experts = {}
    for name, weight in views.loadings.items():
        # N(μ, Σ), Σ⁻¹ = AᵀΨ⁻¹A and μ = Σ AᵀΨ⁻¹ (x − b): the likelihood as a function of z.
        covariance = torch.linalg.inv(views.precision(name))
        gain = covariance @ weight.T / views.noise[name]
        raw = lfm.Full(min_scale=0.0).to_raw(covariance, torch.Size((2,)), torch.zeros(()).double())
        network = torch.nn.Linear(len(weight), 5, dtype=torch.float64)
        with torch.no_grad():
            network.weight.copy_(torch.cat([gain, torch.zeros(3, len(weight))]))
            network.bias.copy_(torch.cat([-gain.sum(-1), raw]))
        experts[name] = network
    product = lfm.ProductOfExperts(network=experts, covariance=lfm.Full(min_scale=0.0))
    guide = lfm.Guide(views.model, z=product)
    rows = {name: views.model.sample(6, seed=0)[name] for name in ("x", "y")}
    fit = lfm.fit(views.model, rows, lfm.SVI(guide, steps=1, learning_rate=1e-12), seed=0, progress=False)
    for kept in ({"x", "y"}, {"x"}, {"y"}):
        seen = {name: value for name, value in rows.items() if name in kept}
        gaps = {
            name: value if name in kept else torch.full_like(value, torch.nan) for name, value in rows.items()
        }
        mean, covariance = views.posterior(seen)
        for data in (seen, gaps):
            distribution = fit.posterior(data)
            torch.testing.assert_close(distribution.mean, mean, rtol=0, atol=1e-9)
            torch.testing.assert_close(
                distribution.covariance_matrix, covariance.expand(6, 2, 2), rtol=0, atol=1e-9
            )
        # Every single draw of log p(x, z) − log q(z) is log p(x) of what was seen.
        bound = lfm.ELBO(kl="monte-carlo").bound(fit.model, guide, fit.batch_of(seen)[0]).per_row
        torch.testing.assert_close(bound, views.log_likelihood(seen), rtol=0, atol=1e-8)
    blank = {"x": torch.full((1, 4), torch.nan).double(), "y": torch.full((1, 3), torch.nan).double()}
    distribution = guide.distribution("z", {}, lfm.Batch(blank))
    assert torch.equal(distribution.mean, torch.zeros(1, 2).double())
    assert torch.equal(distribution.covariance_matrix[0], torch.eye(2).double())


def test_experts_trained_with_views_missing_find_the_exact_posterior_where_it_is_a_product():
    """Orthogonal loadings: the exact posterior is a product of diagonal experts. A gradient without noise there."""
    lengths = torch.tensor([[1.5, 0.7], [1.0, 2.0]]).double()
    x, y = (torch.linalg.qr(torch.randn(size, 2).double())[0] for size in (4, 3))
    views = Views({"x": x * lengths[0], "y": y * lengths[1]})
    guide = lfm.Guide(views.model, z=lfm.ProductOfExperts(network=lfm.Linear()))
    rows = {name: views.model.sample(300, seed=0)[name] for name in ("x", "y")}
    holed = {name: value.clone() for name, value in rows.items()}
    holed["x"][:100] = torch.nan
    holed["y"][100:200] = torch.nan
    svi = lfm.SVI(
        guide,
        objective=lfm.ELBO(gradient="sticking-the-landing"),
        steps=400,
        batch_size=300,
        learning_rate=0.05,
        schedule=lambda fraction: 1 - fraction,
        engine="eager",
    )
    fit = lfm.fit(views.model, holed, svi, seed=0, progress=False)
    for kept in ({"x", "y"}, {"x"}, {"y"}):
        seen = {name: value for name, value in rows.items() if name in kept}
        mean, covariance = views.posterior(seen)
        distribution = fit.posterior(seen)
        exact = dist.MultivariateNormal(mean, covariance)
        factorised = dist.MultivariateNormal(distribution.mean, torch.diag_embed(distribution.variance))
        gap = torch.distributions.kl_divergence(factorised, exact).mean()
        assert gap < 0.01  # nats per row


def test_only_what_a_guide_does_without_may_be_left_out():
    model = lfm.Model(
        z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(6)), y=lfm.Categorical(3, logits=lfm.MLP(6))
    )
    rows = {name: model.sample(12, seed=0)[name] for name in ("x", "y")}

    def fitted(factor):
        return lfm.fit(model, rows, lfm.SVI(lfm.Guide(model, z=factor), steps=2), seed=0, progress=False)

    product = fitted(lfm.ProductOfExperts(network=lfm.MLP(6)))
    assert product.reconstruct({"x": rows["x"]})["y"].shape == (12, 3)
    assert lfm.evaluate.log_likelihood(product, {"y": rows["y"]}, draws=10).per_row.isfinite().all()
    # A guide that reads one view alone does without the other too.
    assert fitted(lfm.Gaussian(network=lfm.MLP(6), given="x")).posterior({"x": rows["x"]}).mean.shape == (
        12,
        2,
    )
    with pytest.raises(lfm.DataError, match="missing: y. Only what a guide can do without may be left out"):
        fitted(lfm.Gaussian(network=lfm.MLP(6))).posterior({"x": rows["x"]})
    with pytest.raises(lfm.DataError, match="missing: y"):
        lfm.fit(model, {"x": rows["x"]}, lfm.SVI(product.guide, steps=2), progress=False)
    with pytest.raises(lfm.DataError, match="unknown: w"):
        product.posterior({"x": rows["x"], "w": rows["x"]})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: lfm.ProductOfExperts(network=lfm.PerRow()), "must be a network"),
        (lambda: lfm.ProductOfExperts(network={"x": lfm.MLP(4)}), "one for each of x, y; got x"),
        (
            lambda: lfm.ProductOfExperts(network=lfm.MLP(4), covariance=lfm.Full(lfm.MLP(4))),
            "without a source",
        ),
        (lambda: lfm.ProductOfExperts(network=lfm.MLP(4), given=()), "needs parents"),
    ],
)
def test_experts_that_cannot_be_are_refused_in_words(make, words):
    with pytest.raises(lfm.DeclarationError, match=words):
        lfm.Guide(cases.two_views(), z=make())


@pytest.mark.parametrize("covariance", [lfm.Diagonal, lfm.Full])
def test_a_product_of_experts_is_recorded_with_views_missing(covariance, replay):  # noqa: F811
    def make():
        model = cases.two_views()
        product = lfm.ProductOfExperts(network=lfm.MLP(6), covariance=covariance())
        return model, lfm.Guide(model, z=product)

    def holed(model):
        rows = cases.rows_of(model)
        rows["x"][::3], rows["y"][1::3] = torch.nan, torch.nan
        return rows

    agree(make, holed)


# Refined for each row --------------------------------------------------------------------------------------


def untrained(factor, steps, **options):
    """A fit of a linear Gaussian model in float64 whose guide has never been trained, refined at evaluation."""
    views = Views({"x": torch.randn(5, 2).double()})
    guide = lfm.Refined(lfm.Guide(views.model, z=factor), steps=steps, **options)
    rows = {"x": views.model.sample(40, seed=0)["x"]}
    fit = lfm.fit(views.model, rows, lfm.SVI(guide, steps=1, learning_rate=1e-12), seed=0, progress=False)
    return views, rows, fit


def gaps(views, rows, distribution):
    """log p(x) − L = KL(q ‖ p(z | x)) of each row, exactly."""
    distribution = dist.MultivariateNormal(
        distribution.mean, getattr(distribution, "covariance_matrix", torch.diag_embed(distribution.variance))
    )
    return torch.distributions.kl_divergence(distribution, dist.MultivariateNormal(*views.posterior(rows)))


def test_refined_to_the_end_a_full_guide_is_exact_and_a_diagonal_one_pays_what_mean_field_must():
    torch.manual_seed(2)
    for covariance in (lfm.Full(), lfm.Diagonal()):
        views, rows, fit = untrained(
            lfm.Gaussian(covariance=covariance, network=lfm.MLP(6)), steps=300, learning_rate=0.2
        )
        precision = torch.eye(2).double() + views.precision("x")
        least = 0.5 * (precision.diagonal().log().sum() - precision.logdet())
        least = torch.zeros(()).double() if isinstance(covariance, lfm.Full) else least
        torch.testing.assert_close(gaps(views, rows, fit.posterior()), least.expand(40), rtol=0, atol=2e-3)


def test_more_steps_bring_each_row_nearer_and_none_is_the_guide_itself():
    views, rows, fit = untrained(lfm.Gaussian(network=lfm.MLP(6)), steps=0)
    refined, gaps_by_steps = fit.guide, []
    fit.guide = refined.proposal
    proposed, bound = fit.posterior(), fit.bound()
    for steps in (0, 1, 4, 16, 64):
        fit.guide = lfm.Refined(refined.proposal, steps=steps, learning_rate=0.1)
        gaps_by_steps.append(gaps(views, rows, fit.posterior()))
        if not steps:
            assert torch.equal(fit.posterior().mean, proposed.mean) and torch.equal(fit.bound(), bound)
    assert all(
        later.mean() < earlier.mean()
        for earlier, later in zip(gaps_by_steps, gaps_by_steps[1:], strict=False)
    )
    assert gaps_by_steps[-1].mean() < 0.5 * gaps_by_steps[0].mean()


def test_a_row_keeps_its_proposal_where_steps_would_harm_it():
    """Steps far too long: without the comparison the mean gap would be several times that of the proposal."""
    views, rows, fit = untrained(lfm.Gaussian(network=lfm.MLP(6)), steps=3, learning_rate=50.0)
    refined = gaps(views, rows, fit.posterior())
    fit.guide = fit.guide.proposal
    assert torch.equal(refined, gaps(views, rows, fit.posterior()))


def test_refining_leaves_everything_as_it_was_and_works_without_gradients():
    _, rows, fit = untrained(lfm.Gaussian(network=lfm.MLP(6)), steps=3)
    parts = (fit.model, fit.guide)
    before = copy.deepcopy([part.state_dict() for part in parts]), torch.get_rng_state()
    modes = [[module.training for module in part.modules()] for part in parts]
    with torch.no_grad():
        first = fit.posterior(rows["x"])
    assert torch.equal(first.mean, fit.posterior(rows["x"]).mean)
    for part, state in zip(parts, before[0], strict=True):
        assert all(torch.equal(value, part.state_dict()[name]) for name, value in state.items())
        assert all(parameter.grad is None for parameter in part.parameters())
    assert any(parameter.requires_grad for parameter in fit.guide.parameters())
    assert torch.equal(before[1], torch.get_rng_state())
    assert modes == [[module.training for module in part.modules()] for part in parts]
    assert not pyro.get_param_store().keys()


REFINED = {
    "bottom-up": lambda: (model := cases.two_layers(), bottom_up(model)),
    "ladder": lambda: (model := cases.two_layers(), ladder(model)),
    "labels": lambda: (model := cases.two_layers_two_views(), cases.guide_for(model, cases.GUIDES["gaussian-full"])),
    "discrete": lambda: (model := cases.latent_mixture(), cases.guide_for(model, cases.GUIDES["gaussian-full"])),
    "constrained": lambda: (model := cases.GammaDirichlet(), cases.guide_for(model, cases.GUIDES["separate-sources"])),
    "shared": lambda: (model := cases.SharedScale(), cases.guide_for(model, cases.GUIDES["shared-covariance"])),
    "matrix": lambda: (
        model := lfm.Model(z=lfm.StandardNormal((2, 2)), x=lfm.Gaussian((2, 2), mean=lfm.MLP(6))),
        lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.LowRank(1), network=lfm.MLP(6))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFINED)
def test_guides_of_every_structure_can_be_refined(name):
    """The 30 steps win far more than the error of 300 draws of each of 12 rows."""
    model, guide = REFINED[name]()
    guide, rows = lfm.Refined(guide, steps=30), cases.rows_of(model)
    fit = lfm.fit(model, rows, lfm.SVI(guide, steps=2, batch_size=5), seed=0, progress=False)
    distributions = fit.posterior(rows)
    for latent, distribution in (
        distributions if isinstance(distributions, dict) else {"z": distributions}
    ).items():
        assert distribution.batch_shape == ((cases.N,) if model.latents[latent].per_row else ())
        assert distribution.log_prob(distribution.sample()).isfinite().all()
    batch, refined = fit.batch_of(rows)
    mean_bounds = []
    for q in (guide.proposal, refined):
        torch.manual_seed(0)  # the same noise: of heavy tails 300 draws alone tell little
        mean_bounds.append(lfm.ELBO(particles=300).bound(model, q, batch).per_row.mean())
    assert mean_bounds[1] > mean_bounds[0]
    assert "refined for each row by 30 steps" in lfm.describe(model, guide)


def test_what_cannot_be_refined_is_refused_in_words():
    model = cases.plain()
    with pytest.raises(lfm.DeclarationError, match="takes an lfm.Guide"):
        lfm.Refined(cases.HandGuide())
    with pytest.raises(lfm.DeclarationError, match="already optimised for each row"):
        lfm.Refined(lfm.Guide(model, z=lfm.Gaussian(network=lfm.PerRow())))
    with pytest.raises(lfm.DeclarationError, match="ProductOfExperts has no sources"):
        lfm.Refined(lfm.Guide(model, z=lfm.ProductOfExperts(network=lfm.MLP(6))))
    with pytest.raises(lfm.DeclarationError, match="steps of Refined"):
        lfm.Refined(cases.guide_for(model, lfm.Gaussian), steps=-1)


# Pyro's automatic guides of what all rows share --------------------------------------------------------------


class Regression(lfm.PyroModel):
    """x = T w + noise with correlated columns of T and a standard normal prior: conjugate, in float64."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        columns = torch.randn(40, 1, generator=generator) + 0.5 * torch.randn(40, 2, generator=generator)
        self.register_buffer("columns", columns.double())

    def forward(self, batch):
        w = pyro.sample("w", dist.Normal(self.columns.new_zeros(2), 1.0).to_event(1))
        with batch.plate():
            pyro.sample("x", dist.Normal((self.columns[batch.index] * w).sum(-1), 0.5), obs=batch["x"])

    def posterior(self, x):
        precision = torch.eye(2).double() + self.columns.T @ self.columns / 0.25
        return dist.MultivariateNormal(
            torch.linalg.solve(precision, self.columns.T @ x / 0.25), precision_matrix=precision
        )

    def evidence(self, x):
        """log p(x) / N."""
        covariance = self.columns @ self.columns.T + 0.25 * torch.eye(40).double()
        return dist.MultivariateNormal(torch.zeros(40).double(), covariance).log_prob(x) / 40


@pytest.mark.parametrize("kind", [AutoMultivariateNormal, AutoNormal])
def test_automatic_guides_reach_the_evidence_or_miss_it_by_what_mean_field_must(kind):
    """The bound is within six standard errors of 4,000 draws of evidence − KL(q ‖ p) / N: false alarm below 1e-8."""
    model = Regression()
    x = model.columns @ torch.tensor([1.0, -1.0]).double() + 0.5 * torch.randn(40).double()
    exact = model.posterior(x)
    svi = lfm.SVI(
        kind(model),
        objective=lfm.ELBO(particles=4, gradient="sticking-the-landing"),
        steps=400,
        batch_size=40,
        learning_rate=0.05,
        schedule=lambda fraction: 1 - fraction,
        engine="eager",
    )
    fit = lfm.fit(model, x, svi, seed=0, progress=False)
    distribution, precision = fit.posterior(), exact.precision_matrix
    least = 0.5 * (precision.diagonal().log().sum() - precision.logdet())
    covariance = getattr(distribution, "covariance_matrix", distribution.variance.diag())
    gap = torch.distributions.kl_divergence(
        dist.MultivariateNormal(distribution.mean, covariance), exact
    ).detach()
    assert float(gap) == pytest.approx(0.0 if kind is AutoMultivariateNormal else least.item(), abs=0.02)
    mean_bounds = []
    for objective in (lfm.ELBO(kl="monte-carlo"), lfm.ELBO(gradient="sticking-the-landing")):
        draws = objective.__class__(particles=4000, kl=objective.kl, gradient=objective.gradient)
        mean_bounds.append(draws.bound(fit.model, fit.guide, lfm.Batch(x)).per_row.mean())
    spread = torch.stack(
        [lfm.ELBO().bound(model, fit.guide, lfm.Batch(x)).per_row.mean() for _ in range(100)]
    ).std()
    for bound in mean_bounds:
        assert abs(bound - (model.evidence(x) - gap / 40)) < 6 * spread / 4000**0.5 + 1e-6


@pytest.mark.parametrize("objective", cases.OBJECTIVES)
def test_a_joint_distribution_of_what_rows_share_serves_every_objective(objective):
    model = cases.bayesian_factors()
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(6)), shared=AutoMultivariateNormal)
    before = [parameter.detach().clone() for parameter in guide.parameters()]
    svi = lfm.SVI(guide, objective=cases.OBJECTIVES[objective](), steps=3, batch_size=6)
    if objective in cases.REFUSALS and "bayesian-factors" in cases.REFUSALS[objective]:
        with pytest.raises(lfm.DeclarationError, match="x.weight"):
            lfm.fit(model, cases.rows_of(model), svi, seed=0, progress=False)
        return
    fit = lfm.fit(model, cases.rows_of(model), svi, seed=0, progress=False)
    assert torch.tensor([record["bound"] for record in fit.history]).isfinite().all()
    assert all(not torch.equal(a, b) for a, b in zip(before, guide.parameters(), strict=True))


KINDS = {
    "multivariate": AutoMultivariateNormal,
    "low-rank": lambda model: AutoLowRankMultivariateNormal(model, rank=2),
    "independent": AutoNormal,
    "point": AutoDelta,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_joint_distribution_of_what_rows_share_keeps_the_contract(kind, replay):  # noqa: F811
    """Means within six standard errors of 300 draws, or of Pushforward's 1,000: false alarm below 1e-6."""

    def make():
        model = cases.bayesian_factors()
        return model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(6)), shared=KINDS[kind])

    _, fit = agree(make, cases.rows_of)
    draws, distributions = fit.sample_posterior(draws=300), fit.posterior()
    for name, latent in fit.model.latents.items():
        distribution = distributions[name]
        assert (
            distribution.batch_shape == ((cases.N,) if latent.per_row else ())
            and distribution.event_shape == latent.shape
        )
        error = draws[name].std(0) * (1 / 300 + 1 / 1000) ** 0.5 + 1e-5
        assert ((draws[name].mean(0) - distribution.mean).abs() < 6 * error).all(), name
    lfm.testing.check_guide(fit.guide, fit.model)
    assert "jointly" in lfm.describe(fit.model, fit.guide)
    twin = make()[1]
    twin.load_state_dict(fit.guide.state_dict())
    for other in (twin, copy.deepcopy(fit.guide)):
        bounds = []
        for guide in (fit.guide, other):
            torch.manual_seed(1)
            bounds.append(lfm.ELBO().bound(fit.model, guide, lfm.Batch(cases.rows_of(fit.model))).per_row)
        assert torch.equal(*bounds)


def test_the_bound_of_an_automatic_guide_is_that_of_pyro():
    """4,000 draws each, within six of their standard errors: false alarm below 1e-8."""
    model = cases.SharedScale()
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(6)), shared=AutoMultivariateNormal)
    batch = lfm.Batch(cases.rows_of(model))
    trace = pyro.infer.Trace_ELBO(num_particles=200, vectorize_particles=True, max_plate_nesting=1)
    with torch.no_grad():
        ours = [lfm.ELBO(particles=200).bound(model, guide, batch).per_row.mean() for _ in range(20)]
        theirs = [torch.tensor(-trace.loss(model, guide, batch) / cases.N) for _ in range(20)]
    ours, theirs = torch.stack(ours), torch.stack(theirs)
    assert (ours.mean() - theirs.mean()).abs() < 6 * ((ours.var() + theirs.var()) / 20).sqrt()
    pyro.clear_param_store()


def test_automatic_guides_that_cannot_be_are_refused_in_words():
    model = cases.plain()
    with pytest.raises(
        lfm.DeclarationError, match="AutoNormal cannot serve z, which each row has for itself"
    ):
        lfm.fit(model, cases.rows_of(model), lfm.SVI(AutoNormal(model), steps=1), progress=False)
    with pytest.raises(lfm.DeclarationError, match="no further latent that all rows share"):
        lfm.Guide(model, z=lfm.Gaussian(), shared=AutoNormal)
    model = cases.bayesian_factors()
    for wrong in (AutoNormal(model), 3, lambda model: None):
        with pytest.raises(lfm.DeclarationError, match="shared must be a class of pyro.infer.autoguide"):
            lfm.Guide(model, z=lfm.Gaussian(), shared=wrong)


def test_a_discrete_guide_of_a_real_latent_is_refused():
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lfm.Linear()))
    for factor in (lfm.Bernoulli(), lfm.Poisson()):
        with pytest.raises(lfm.DeclarationError, match="z takes real values; its guide must have a density"):
            lfm.Guide(model, z=factor)
