"""Single families: exposure and covariates, ordered levels, grids, zero-inflated counts, flows."""

import copy
import io

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints, transforms

import pyro_lfm as lfm

COUNTS = {
    "poisson": lambda **options: lfm.Poisson(3, network=lfm.MLP(4), **options),
    "negative-binomial": lambda **options: lfm.NegativeBinomial(3, network=lfm.MLP(4), **options),
    "zero-inflated-poisson": lambda **options: lfm.ZeroInflatedPoisson(3, network=lfm.MLP(4), **options),
    "zero-inflated-negative-binomial": lambda **options: lfm.ZeroInflatedNegativeBinomial(
        3, network=lfm.MLP(4), **options
    ),
}


def counted(likelihood=None, **covariate):
    library = lfm.Covariate(**{"support": constraints.positive, **covariate})
    x = COUNTS["poisson"](exposure="library") if likelihood is None else likelihood
    return lfm.Model(z=lfm.StandardNormal(2), library=library, x=x)


def amortized(model, **options):
    return lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4), **options))


def svi(guide, **options):
    return lfm.SVI(guide, **{"epochs": 1, **options})


@pytest.mark.parametrize("family", COUNTS)
def test_the_mean_of_counts_grows_with_their_exposure_and_networks_do_not_read_it(family):
    torch.manual_seed(0)
    x = counted(COUNTS[family](exposure="library")).factors["x"]
    z = torch.randn(5, 2)
    once, often = (x(z, torch.full((5,), exposure)).mean for exposure in (1.0, 8.0))
    torch.testing.assert_close(often, 8 * once)
    without = lfm.Model(z=lfm.StandardNormal(2), x=COUNTS[family]()).factors["x"]
    without.load_state_dict(x.state_dict())
    torch.testing.assert_close(without(z).mean, once)


def test_a_model_with_a_covariate_generates_is_described_and_fitted():
    torch.manual_seed(0)
    model = counted(value=2.0)
    assert model.sample(3, seed=0)["library"].tolist() == [2.0, 2.0, 2.0]
    library = torch.linspace(1, 1000, 40)
    rows = model.sample(40, seed=0, given={"library": library})
    assert torch.equal(rows["library"], library) and rows["x"][-1].sum() > 100
    assert list(model.observed) == ["library", "x"] and model.covariates == ["library"]
    guide = amortized(model)
    text = lfm.describe(model, guide)
    assert "p(z, x | library) = p(z) p(x | z, library)" in text
    assert "library: Covariate, event ()" in text and "exposure: library" in text
    assert "log p(x | library) >= E_q[log p(x | z, library)] - KL(q(z | library, x) || p(z))" in text
    data = {"x": rows["x"], "library": library}
    fit = lfm.fit(model, data, svi(guide, epochs=2), seed=0, progress=False)
    assert fit.posterior({"x": rows["x"][:5], "library": library[:5]}).mean.shape == (5, 2)
    # It adds nothing to the bound.
    trace = lfm.ELBO().bound(model, guide, lfm.Batch(data))
    assert set(trace.kl) == {"z"} and trace.per_row.isfinite().all()


def test_a_covariate_is_read_by_networks_where_given_names_it():
    dose = lfm.Covariate(2)
    model = lfm.Model(
        z=lfm.StandardNormal(2), dose=dose, x=lfm.Gaussian(3, mean=lfm.Linear(), given=("z", "dose"))
    )
    # Three columns, of two latents and two covariates, and a bias for each.
    assert sum(p.numel() for p in model.factors["x"].parts["mean"].parameters()) == 3 * (2 + 2 + 1)
    # And a parameter may be a latent itself.
    walk = lfm.Model(z=lfm.StandardNormal(3), x=lfm.Gaussian(3, mean="z"))
    z = torch.randn(5, 3)
    assert torch.equal(walk.factors["x"](z).mean, z)


def test_a_covariate_that_is_a_label_is_read_one_hot_and_picks_from_a_lookup():
    label = lfm.Covariate(support=constraints.integer_interval(0, 2))
    x = lfm.Gaussian(4, mean=lfm.Linear(), covariance=lfm.Diagonal(lfm.Lookup()), given=("z", "t"))
    model = lfm.Model(z=lfm.StandardNormal(2), t=label, x=x)
    assert model.observed["t"].categories == 3
    rows = model.sample(12, seed=0, given={"t": torch.arange(12) % 3})
    assert rows["t"].tolist() == [0, 1, 2] * 4
    fit = lfm.fit(model, {"x": rows["x"], "t": rows["t"]}, svi(amortized(model)), seed=0, progress=False)
    distribution = fit.model.factors["x"](torch.zeros(2, 2), torch.tensor([0, 2]))
    mean = fit.model.factors["x"].parts["mean"]
    expected = mean(torch.tensor([[0.0, 0, 1, 0, 0], [0, 0, 0, 0, 1]]))
    torch.testing.assert_close(distribution.mean, expected)
    with pytest.raises(lfm.DataError, match="t must be integers 0..2"):
        lfm.fit(model, {"x": rows["x"], "t": rows["t"] + 1}, svi(amortized(model)), progress=False)


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda: counted(support=constraints.real), "x.exposure must be positive, which library need not be"),
        (lambda: counted(lfm.Binomial(3, total_count="library", network=lfm.MLP(4))), "constraints.positive_integer"),
        (lambda: counted(event=2), r"x.exposure is library, whose shape must be \(\) or \(3,\); got \(2,\)"),
        (lambda: counted(COUNTS["poisson"](exposure="size")), "x.exposure must be .* another factor .*got 'size'"),
        (lambda: counted(COUNTS["poisson"]()), "nothing reads library"),
        (lambda: counted(value=-1.0), "value of a Covariate must lie in its support"),
        (lambda: counted(value="one"), "value of a Covariate must be a number or of shape"),
        (lambda: counted(support="positive"), "support of a Covariate must be a constraint"),
        (lambda: lfm.Model(z=lfm.StandardNormal(2), t=lfm.Covariate()), "needs an observed factor"),
        (lambda: lfm.Binomial(3, total_count=2.5), "total_count of Binomial must be whole numbers"),
        (lambda: lfm.Binomial(3, total_count=None), "total_count of Binomial must be whole numbers"),
        (lambda: lfm.Multinomial(3, total_count=0), "total_count of Multinomial must be whole numbers"),
        (lambda: lfm.Multinomial((2, 2)).build("x", []), r"an event of one dimension, D kinds; got \(2, 2\)"),
        (lambda: lfm.OrderedLogistic(3, 1), "levels must be an int of at least 2"),
        (lambda: lfm.DiscretizedLogistic(3, low=1.0), "high must be above low=1; got 1"),
        (lambda: lfm.LogisticNormal(3, covariance=lfm.Diagonal(prior=lfm.parameter_priors.Gamma())), "without a prior"),
        (lambda: lfm.Dirichlet(1).build("z", []), "at least 2 shares"),
        (lambda: lfm.FlowPrior(1), "needs dim of at least 2"),
        (lambda: lfm.FlowPrior(3, transforms.planar), "invertible TransformModule"),
        (lambda: lfm.FlowPrior(3, lambda dim: torch.nn.Linear(dim, dim)), "invertible TransformModule"),
        (lambda: lfm.StudentT(2, df=lfm.Fixed(0.5)).build("x", []), "x.df must be finite and within its support"),
        (lambda: counted().sample(3, given={"x": torch.zeros(3, 3)}), "given= names covariates and latents"),
        (lambda: counted().sample(3, given={"library": torch.ones(2)}), "one row for each of the n=3"),
    ],
)  # fmt: skip
def test_declarations_that_cannot_work_say_why(declare, words):
    with pytest.raises((lfm.DeclarationError, lfm.ShapeError), match=words):
        declare()


@pytest.mark.parametrize(
    ("library", "words"),
    [
        (torch.tensor([1.0, float("nan")]), "library is a covariate, which cannot have missing entries"),
        (torch.tensor([1.0, 0.0]), "library must be greater than 0.*got 0 at row 1"),
    ],
)
def test_covariates_are_known_of_every_row_and_lie_in_their_support(library, words):
    model = counted()
    with pytest.raises(lfm.DataError, match=words):
        lfm.fit(model, {"x": torch.ones(2, 3), "library": library}, svi(amortized(model)), progress=False)
    with pytest.raises(lfm.DataError, match="library is a covariate of this model: give it with x"):
        lfm.ELBO().bound(model, amortized(model, given="x"), lfm.Batch({"x": torch.ones(2, 3)}))


def test_inference_that_knows_no_covariates_says_so():
    model = lfm.Model(
        z=lfm.StandardNormal(1), t=lfm.Covariate(), x=lfm.Gaussian(3, mean=lfm.Linear(), given=("z", "t"))
    )
    data = {"x": torch.randn(9, 3), "t": torch.ones(9)}
    for inference in (lfm.EM(), lfm.VariationalEM(), lfm.VariationalBayes()):
        with pytest.raises(lfm.DeclarationError, match="one observed factor"):
            lfm.fit(model, data, inference, progress=False)


def test_the_trials_of_a_binomial_bound_its_data_or_come_with_each_row():
    fixed = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Binomial(2, total_count=[3, 5], logits=lfm.MLP(4)))
    with pytest.raises(lfm.DataError, match="x must be integers 0..its bound.*got 4 at row 0, column 0"):
        lfm.fit(fixed, torch.tensor([[4.0, 4.0]]), svi(amortized(fixed)), progress=False)
    whole = constraints.positive_integer
    each = counted(lfm.Binomial(3, total_count="library", logits=lfm.MLP(4)), support=whole)
    rows = each.sample(20, seed=0, given={"library": torch.arange(1.0, 21.0)})
    assert (rows["x"] <= rows["library"].unsqueeze(-1)).all() and (rows["x"] > 1).any()
    data = {"x": rows["x"], "library": rows["library"]}
    fit = lfm.fit(each, data, svi(amortized(each)), seed=0, progress=False)
    assert fit.history[-1]["bound"] < 0


def test_the_rows_of_a_multinomial_sum_to_a_total_of_all_or_of_each():
    fixed = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Multinomial(3, total_count=4, logits=lfm.MLP(4)))
    assert (fixed.sample(9, seed=0)["x"].sum(-1) == 4).all()
    words = "rows of whole numbers of at least 0 that sum to 4.*row 1.*a Covariate that holds each row's sum"
    with pytest.raises(lfm.DataError, match=words):
        rows = torch.tensor([[2.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
        lfm.fit(fixed, rows, svi(amortized(fixed)), progress=False)
    each = counted(
        lfm.Multinomial(3, total_count="library", logits=lfm.MLP(4)), support=constraints.positive_integer
    )
    library = torch.arange(1.0, 21.0)
    rows = each.sample(20, seed=0, given={"library": library})
    assert torch.equal(rows["x"].sum(-1), library)
    data = {"x": rows["x"], "library": library}
    fit = lfm.fit(each, data, svi(amortized(each)), seed=0, progress=False)
    torch.testing.assert_close(fit.reconstruct(data).sum(-1), library)


def test_cut_points_stay_in_order_whatever_is_learned():
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.OrderedLogistic(2, 6, predictor=lfm.MLP(4)))
    start = model.factors["x"](torch.zeros(1, 1)).base_dist.probs
    assert start.shape == (1, 2, 6)
    even = lfm.OrderedLogistic(1, 4, predictor=lfm.Fixed(0.0)).build("x", [])()
    torch.testing.assert_close(even.base_dist.probs.detach(), torch.full((1, 4), 0.25))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(30 * torch.randn_like(parameter))
    distribution = model.factors["x"](torch.randn(50, 1))
    levels = torch.arange(6.0).reshape(6, 1, 1).expand(6, 50, 2)
    log_probs = distribution.base_dist.log_prob(levels)
    assert log_probs.isfinite().all()
    torch.testing.assert_close(log_probs.exp().sum(0), torch.ones(50, 2))
    rows = model.sample(12, seed=0)["x"]
    fit = lfm.fit(model, rows, svi(amortized(model)), seed=0, progress=False)
    filled = fit.reconstruct(rows)
    assert filled.shape == (12, 2) and (filled >= 0).all() and (filled <= 5).all()


@pytest.mark.parametrize("family", [lfm.DiscretizedLogistic, lfm.DiscretizedLogisticMixture])
def test_the_256_levels_of_pixels(family):
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(2), x=family((1, 4, 4), network=lfm.MLP(8)))
    pixels = torch.randint(256, (12, 1, 4, 4)) / 255
    fit = lfm.fit(model, pixels, svi(amortized(model)), seed=0, progress=False)
    assert fit.history[-1]["bound"] < 0  # of a pmf: the bound of discrete data is never above 0
    assert fit.reconstruct(pixels).shape == pixels.shape
    with pytest.raises(lfm.DataError, match="one of 256 values from 0 to 1.*rescale and round"):
        lfm.fit(model, pixels + 0.001, svi(amortized(model)), progress=False)


def test_logistic_levels_are_exact_far_in_the_tails():
    """Where differences of probabilities end in ln 0."""
    distribution = lfm.DiscretizedLogistic(1, loc=lfm.Fixed(0.0), scale=lfm.Fixed(0.002)).build("x", [])()
    log_prob = distribution.log_prob(torch.tensor([[0.5], [200 / 255]]))
    step, scale = 1 / 255, 0.002
    rate = torch.tensor([127.5, 200.0]) * step / scale
    expected = -rate + torch.tensor(step / scale / 2).sinh().mul(2).log()
    assert log_prob.isfinite().all()
    torch.testing.assert_close(log_prob, expected, rtol=0.02, atol=0.0)


def test_counts_with_extra_zeros_are_those_of_pyro():
    torch.manual_seed(0)
    gate, rate = torch.randn(3, dtype=torch.float64), torch.rand(3, dtype=torch.float64) + 0.5
    x = torch.arange(8, dtype=torch.float64).unsqueeze(-1).expand(8, 3)
    options = {"gate_logits": lfm.Fixed(gate)}
    ours = lfm.ZeroInflatedPoisson(3, rate=lfm.Fixed(rate), **options).build("x", []).double()()
    theirs = dist.ZeroInflatedPoisson(rate, gate_logits=gate)
    torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x).sum(-1))
    torch.testing.assert_close(ours.mean, theirs.mean)
    torch.testing.assert_close(ours.variance, theirs.variance)
    # A zero is certain, and its probability still a number.
    sure = lfm.ZeroInflatedPoisson(1, rate=lfm.Fixed(1.0), gate_logits=lfm.Fixed(80.0)).build("x", [])()
    assert sure.log_prob(torch.zeros(1)) > -1e-30 and sure.log_prob(torch.ones(1)) < -80


def test_a_flow_prior_that_was_used_can_be_copied_and_saved():
    torch.manual_seed(0)
    for flow in (None, transforms.spline_coupling):
        model = lfm.Model(z=lfm.FlowPrior(3, flow, layers=2), x=lfm.Gaussian(4, mean=lfm.MLP(4)))
        fit = lfm.fit(model, torch.randn(20, 4), svi(amortized(model)), seed=0, progress=False)
        z = torch.randn(5, 3)
        density = fit.model.factors["z"]().log_prob(z)
        density.sum().backward()
        assert torch.equal(copy.deepcopy(fit.model).factors["z"]().log_prob(z), density)
        saved = io.BytesIO()
        torch.save(fit.model, saved)
        saved.seek(0)
        assert torch.equal(torch.load(saved, weights_only=False).factors["z"]().log_prob(z), density)


def test_a_mixture_with_missing_entries_is_the_mixture_of_the_margins():
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.MixtureOfGaussians(2, 3, network=lfm.MLP(4)))
    z, x = torch.randn(4, 1), torch.randn(4, 2)
    x[1:, 0] = float("nan")
    guide = lfm.Guide(
        model, z=lfm.Gaussian(mean=lfm.Fixed(0.5), covariance=lfm.Isotropic(lfm.Fixed(1e-12), min_scale=0.0))
    )
    reconstruction = lfm.ELBO().bound(model, guide, lfm.Batch(x)).reconstruction
    distribution = model.factors["x"](torch.full_like(z, 0.5))
    parts = distribution.component_distribution.base_dist
    margins = (distribution.mixture_distribution.logits + parts.log_prob(x.unsqueeze(1))[..., 1]).logsumexp(
        -1
    )
    torch.testing.assert_close(reconstruction[1:], margins[1:], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        reconstruction[0], distribution.log_prob(x.nan_to_num())[0], rtol=1e-3, atol=1e-3
    )


def test_a_logistic_normal_is_fitted_to_observed_shares():
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.LogisticNormal(3, network=lfm.MLP(4)))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    shares = torch.tensor([[0.7, 0.2, 0.1]]).repeat(20, 1)
    fit = lfm.fit(model, shares, lfm.SVI(guide, epochs=200, learning_rate=1e-2), seed=0, progress=False)
    assert torch.allclose(fit.reconstruct().mean(0), shares[0], atol=0.05)
