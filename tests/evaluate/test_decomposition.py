"""The parts of a bound: against closed forms of linear Gaussian models, and what cannot be served."""

import math

import cases
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import Gamma, kl_divergence

import pyro_lfm as lfm
from pyro_lfm.distributions.entrywise import entries_of
from pyro_lfm.evaluate.decomposition import aggregate, nats
from pyro_lfm.inference import blocks
from pyro_lfm.inference.engines import tracing
from pyro_lfm.plots import kl_by_entry

# Two factors that matter, one that the data hardly know.
WEIGHT = torch.tensor([[1.2, -0.4, 0.01], [0.8, 0.9, 0.0], [-1.0, 0.5, 0.02], [0.3, -1.1, 0.0]])


def linear(rows, seed=0, weight=WEIGHT):
    """A linear Gaussian model with noise of variance 1, its exact posterior, rows that it draws."""
    mean = lfm.Linear(weight=lfm.Fixed(weight), bias=lfm.Fixed(torch.zeros(len(weight))))
    noise = lfm.Isotropic(lfm.Fixed(1.0))
    x = lfm.Gaussian(len(weight), mean=mean, covariance=noise)
    model = lfm.Model(z=lfm.StandardNormal(weight.shape[1]), x=x).double()
    return model, lfm.ExactPosterior(model), model.sample(rows, seed=seed)["x"]


def tempered(x, beta, weight=WEIGHT):
    """R and D of the tempered posterior, its covariance and means, in closed form."""
    w = weight.double()
    precision = torch.eye(w.shape[1]).double() + beta * w.T @ w
    covariance = precision.inverse()
    mean = beta * x @ w @ covariance
    rate = 0.5 * (covariance.trace() + mean.square().sum(1) - w.shape[1] + precision.logdet())
    residual = (x - mean @ w.T).square().sum(1) + (w @ covariance @ w.T).trace()
    return rate, 0.5 * (residual + len(w) * math.log(2 * math.pi)), covariance, mean


def test_of_a_linear_gaussian_model_all_parts_are_known():
    """At 5 standard errors of the draws, some 20 figures: a false alarm in 80,000 runs. Rows: N = 1500 of the model
    itself, so that q(z) is close to p(z) and I to ½ log |M|, at 4 standard errors of the rows."""
    model, guide, x = linear(1500)
    result = lfm.evaluate.decompose((model, guide), x, draws=400, pairs=4, betas=())
    rate, distortion, covariance, mean = tempered(x, 1.0)
    assert torch.allclose(result.rate.per_row, rate) and result.rate.draws_error < 1e-7
    off = result.reconstruction.mean + distortion.mean()
    assert abs(off) < 5 * result.reconstruction.draws_error and result.reconstruction.draws_error > 0
    bound = float((result.bound.per_row - (-distortion - rate)).mean())
    assert abs(bound) < 5 * result.bound.draws_error
    # The surgery: exact in the estimates.
    assert torch.allclose(result.information.per_row + result.aggregate.per_row, result.rate.per_row)
    known = 0.5 * float((torch.eye(3) + WEIGHT.T @ WEIGHT).double().logdet())
    assert abs(result.information.mean - known) < 4 * result.information.rows_error
    assert result.information.draws_error < 0.2 * result.information.rows_error
    assert result.information.mean < result.information_upper.mean
    assert abs(result.aggregate.mean) < 4 * result.aggregate.rows_error + 3 / 1500 * 3
    # Marginals of the entries, and what their dependence adds: KL = Σ KL_k + ½ [Σ log C_kk − log |C|].
    units = result.latents["z"]
    variance = covariance.diagonal()
    each = 0.5 * (variance + mean.square() - 1 - variance.log()).mean(0)
    assert torch.allclose(units.kl, each)
    assert units.rest == pytest.approx(0.5 * float(variance.log().sum() - covariance.logdet()))
    assert torch.allclose(units.variance, mean.var(0))
    assert units.active.tolist() == [True, True, False] and result.active_units == 2
    assert "2 of 3 entries of z are active; 1 carries under 0.01 nats" in result.verdict


def test_the_curve_is_that_of_the_tempered_posteriors():
    """At 5 standard errors, 14 figures: a false alarm in 100,000 runs; the ratio's bias is of order 1 / 2000 nats."""
    model, guide, x = linear(60)
    betas = (0.0, 0.05, 0.2, 0.5, 1.0, 1.5, 3.0)
    curve = lfm.evaluate.decompose((model, guide), x, draws=2000, pairs=2, betas=betas).curve
    assert curve.reliable.all() and curve.betas == betas
    for i, beta in enumerate(betas):
        rate, distortion, _, _ = tempered(x, beta)
        for part, known in ((curve.rate[i], rate), (curve.distortion[i], distortion)):
            assert abs(part.mean - float(known.mean())) < 5 * part.draws_error + 3e-3


def test_the_curve_does_not_hang_on_the_guide():
    """A guide far from the posterior: the distributions that are fitted to the weights serve in its place. 5 standard
    errors, 14 figures: a false alarm in 100,000 runs. No q has less of R + β D: the guide's point lies far above the
    curve."""
    model, _, x = linear(60, weight=3 * WEIGHT)
    torch.manual_seed(0)
    guide = lfm.Guide(
        model, z=lfm.Gaussian(mean=lfm.Linear(), covariance=lfm.Isotropic(lfm.Fixed(0.1)))
    ).double()
    betas = (0.0, 0.05, 0.2, 0.5, 1.0, 1.5, 3.0)
    curve = lfm.evaluate.decompose((model, guide), x, draws=2000, pairs=2, betas=betas).curve
    rate, distortion = (term.mean for term in curve.guide)
    assert curve.effective_sample_size[4] > 400 and curve.reliable.all()
    for i, beta in enumerate(betas):
        known = tempered(x, beta, 3 * WEIGHT)
        assert abs(curve.rate[i].mean - float(known[0].mean())) < 5 * curve.rate[i].draws_error + 5e-3
        assert (
            abs(curve.distortion[i].mean - float(known[1].mean()))
            < 5 * curve.distortion[i].draws_error + 5e-3
        )
        assert beta == 0 or rate + beta * distortion > float((known[0] + beta * known[1]).mean()) + 0.5


def test_the_curve_of_rates_above_zero():
    """Poisson counts of a Gamma rate: the tempered posterior is Gamma(a + β x, b + β). 5 standard errors, 10 figures."""

    class Counts(lfm.PyroModel):
        def forward(self, batch):
            with batch.plate():
                r = pyro.sample("r", dist.Gamma(torch.tensor(2.0), torch.tensor(0.5)))
                pyro.sample("x", dist.Poisson(r), obs=batch["x"])

    model = Counts()
    torch.manual_seed(3)
    guide = lfm.Guide(model, r=lfm.Gaussian(network=lfm.MLP(4)))
    x = model.sample(50, seed=0)["x"]
    betas = (0.0, 0.1, 0.5, 1.0, 2.0)
    curve = lfm.evaluate.decompose((model, guide), x, draws=2000, pairs=2, betas=betas).curve
    assert curve.reliable.all()
    for i, beta in enumerate(betas):
        a, b = 2 + beta * x, torch.full_like(x, 0.5 + beta)
        rate = kl_divergence(Gamma(a, b), Gamma(torch.full_like(x, 2.0), torch.full_like(x, 0.5)))
        distortion = (x + 1).lgamma() + a / b - x * (a.digamma() - b.log())
        assert abs(curve.rate[i].mean - float(rate.mean())) < 5 * curve.rate[i].draws_error + 3e-3
        assert (
            abs(curve.distortion[i].mean - float(distortion.mean()))
            < 5 * curve.distortion[i].draws_error + 3e-3
        )


def test_errors_from_the_draws_are_those_of_other_draws():
    """40 seeds, the same rows: the spread of each figure is within 45% of its mean error, 3.5 standard errors of a spread of
    40; six figures: a false alarm in 400 runs, were seeds not fixed."""
    model, _, x = linear(60)
    torch.manual_seed(0)
    pair = model, lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear())).double()
    every = [
        lfm.evaluate.decompose(pair, x, draws=60, pairs=4, seed=10 * seed, betas=(0.5,)) for seed in range(40)
    ]
    for pick in (
        lambda result: result.bound,
        lambda result: result.information,
        lambda result: result.information_upper,
        lambda result: result.aggregate,
        lambda result: result.curve.rate[0],
        lambda result: result.curve.distortion[0],
    ):
        spread = torch.tensor([pick(result).mean for result in every]).std()
        claimed = torch.tensor([pick(result).draws_error for result in every]).mean()
        assert abs(float(spread / claimed) - 1) < 0.45


def test_points_whose_weights_cannot_be_believed_are_marked():
    """A guide that is far too narrow, and far from the posterior; the prior as far."""
    weight = 8 * torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    model, _, x = linear(20, weight=weight)
    narrow = lfm.Gaussian(mean=lfm.Fixed(3.0), covariance=lfm.Isotropic(lfm.Fixed(0.01)))
    guide = lfm.Guide(model, z=narrow).double()
    curve = lfm.evaluate.decompose((model, guide), x, draws=200, pairs=2, betas=(0.0, 1.0)).curve
    assert curve.reliable.tolist()[1] is False and curve.effective_sample_size[1] < 20
    assert "unreliable" in repr(curve)
    few = lfm.evaluate.decompose((model, guide), x, draws=10, pairs=2, betas=(0.0,)).curve
    assert not few.reliable.any()


def test_rows_that_are_the_same_tell_nothing_and_rows_far_apart_tell_themselves():
    model, guide, x = linear(1, weight=20 * torch.eye(3))
    same = lfm.evaluate.decompose((model, guide), x.expand(50, -1), draws=20)
    assert same.information.per_row.abs().max() < 1e-9 and same.information.draws_error < 1e-9
    assert same.aggregate.mean == pytest.approx(same.rate.mean, abs=1e-9)
    far = 1000 * torch.arange(50.0).double().unsqueeze(1) * torch.ones(3).double()
    apart = lfm.evaluate.decompose((model, guide), far, draws=20)
    assert torch.allclose(apart.information.per_row, torch.full((50,), math.log(50)).double())
    assert "near its limit log 50 = 3.91" in apart.verdict
    assert apart.information_upper.mean > 1000
    assert "a prior that is learned" in apart.verdict


def test_blocks_of_rows_and_draws_give_the_same(monkeypatch):
    """The draws are others: within 6 standard errors of both."""
    model, guide, x = linear(70)
    one = lfm.evaluate.decompose((model, guide), x, draws=100, pairs=4)
    again = lfm.evaluate.decompose((model, guide), x, draws=100, pairs=4)
    assert torch.equal(one.information.per_row, again.information.per_row)
    monkeypatch.setattr(nats, "_ROWS", 20)
    monkeypatch.setattr(blocks, "NUMBERS", 20 * 7 * 8)
    monkeypatch.setattr(aggregate, "NUMBERS", 7 * 20 * 3)
    parts = lfm.evaluate.decompose((model, guide), x, draws=100, pairs=4)
    assert torch.allclose(one.rate.per_row, parts.rate.per_row)
    for name in ("bound", "information", "aggregate", "information_upper"):
        a, b = getattr(one, name), getattr(parts, name)
        assert abs(a.mean - b.mean) < 6 * math.hypot(a.draws_error, b.draws_error), name
    assert parts.draws >= 100 and len(parts.curve.rate[0].per_row) == 70


def test_a_compiled_evaluation_has_the_same_noise(monkeypatch):
    torch.manual_seed(0)
    model = cases.plain()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-diagonal"])
    data = cases.rows_of(model)
    eager = lfm.evaluate.decompose((model, guide), data, draws=50, betas=())
    monkeypatch.setattr(blocks, "COMPILING", -1.0)
    made = []
    native = tracing.native
    monkeypatch.setattr(tracing, "native", lambda *given: made.append(1) or native(*given))
    compiled = lfm.evaluate.decompose((model, guide), data, draws=50, betas=())
    assert made and torch.allclose(eager.bound.per_row, compiled.bound.per_row, atol=1e-4)
    assert torch.allclose(eager.latents["z"].kl, compiled.latents["z"].kl, atol=1e-4)


def test_the_global_random_state_is_left_alone():
    model, guide, x = linear(10)
    state = torch.get_rng_state()
    lfm.evaluate.decompose((model, guide), x, draws=10)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", cases.GUIDES)
def test_every_guide_is_decomposed_and_the_parts_add_up(name):
    torch.manual_seed(0)
    model = cases.plain()
    guide = cases.guide_for(model, cases.GUIDES[name])
    data = cases.rows_of(model)
    data["x"][::3, 0] = math.nan
    fit = lfm.fit(model, data, lfm.SVI(guide, epochs=1), seed=0, progress=False)
    result = lfm.evaluate.decompose(fit, draws=20)
    adds_up(result)
    units = result.latents["z"]
    if units.kl is not None:
        assert float(units.kl.sum()) + units.rest == pytest.approx(result.kl["z"].mean, abs=1e-5)
    assert units.variance.shape == (cases.K,)


def adds_up(result):
    assert result.information.mean + result.aggregate.mean == pytest.approx(result.rate.mean, abs=1e-9)
    assert result.reconstruction.mean - result.rate.mean == pytest.approx(result.bound.mean, abs=1e-5)
    assert sum(term.mean for term in result.kl.values()) == pytest.approx(result.rate.mean, abs=1e-5)
    assert result.information.mean <= math.log(len(result.bound.per_row)) + 5 * result.information.draws_error
    assert "nan" not in repr(result.curve) and "nan" not in result.verdict


@pytest.mark.parametrize("prior", ["learned-full-gaussian", "laplace", "gamma", "dirichlet", "vamp", "flow"])
def test_every_prior(prior):
    torch.manual_seed(0)
    model = cases.one_latent(prior=prior)
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    adds_up(lfm.evaluate.decompose((model, guide), cases.rows_of(model), draws=20))


def test_the_kl_of_the_entries_is_that_of_the_latent_where_they_are_independent():
    """Monte Carlo and closed form: a guide carried onto a support, against Gammas and against a distribution without a
    form."""
    torch.manual_seed(0)
    for prior in ("gamma", "unit-interval", "student-t"):
        model = cases.one_latent(prior=prior)
        guide = cases.guide_for(model, cases.GUIDES["gaussian-diagonal"])
        result = lfm.evaluate.decompose((model, guide), cases.rows_of(model), draws=50)
        assert float(result.latents["z"].kl.sum()) == pytest.approx(result.rate.mean, rel=1e-5), prior
        assert result.latents["z"].rest == 0.0


def test_several_latents_programs_by_hand_and_labels():
    torch.manual_seed(0)
    for make in (cases.two_layers, cases.two_layers_two_views, cases.GammaDirichlet):
        model = make()
        guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
        result = lfm.evaluate.decompose((model, guide), cases.rows_of(model), draws=20)
        adds_up(result)
        assert result.kl.keys() == result.latents.keys() == model.latents.keys()
    by_hand = lfm.evaluate.decompose((cases.plain(), cases.HandGuide()), torch.randn(12, 4), draws=20)
    adds_up(by_hand)
    label = cases.mixture(lfm.Gaussian(cases.D, mean=lfm.Lookup(), given="c"))
    result = lfm.evaluate.decompose((label, lfm.ExactPosterior(label)), cases.rows_of(label), draws=20)
    adds_up(result)
    assert result.active_units is None and result.latents["c"].active is None
    assert result.verdict.startswith("c carries")


def test_a_latent_that_reads_another_is_held_against_every_row_by_pairs():
    """q(a, b | x) = q(a | x) q(b | a, x), every pair by hand."""
    torch.manual_seed(0)
    model = lfm.Model(a=lfm.StandardNormal(1), b=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(4)))
    guide = lfm.Guide(
        model, a=lfm.Gaussian(network=lfm.MLP(4)), b=lfm.Gaussian(network=lfm.MLP(4), given=("a", "x"))
    )
    x = torch.randn(9, 4)
    of_rows = blocks.Blocks(model, guide, lfm.Batch({"x": x}), 4, 0)
    a, b = torch.randn(5, 1), torch.randn(5, 2)
    own = torch.tensor([0, 3, 4, 8, 8])
    with of_rows.running():
        every = aggregate.Aggregate(of_rows, guide, ["a", "b"])
        itself, whole, others = every.log_density({"a": a, "b": b}, own)
        pairs = torch.stack([
            guide.factors["a"](x).log_prob(a[i]) + guide.factors["b"](a[i].expand(9, 1), x).log_prob(b[i]) for i in range(5)
        ]).double()  # fmt: skip
    assert not every.apart
    assert torch.allclose(itself, pairs[torch.arange(5), own], atol=1e-5)
    assert torch.allclose(whole, pairs.logsumexp(1) - math.log(9), atol=1e-5)
    pairs[torch.arange(5), own] = -math.inf
    assert torch.allclose(others, pairs.logsumexp(1) - math.log(8), atol=1e-5)


def test_collapse_is_told_in_words():
    torch.manual_seed(0)
    model = cases.plain()
    prior = lfm.Gaussian(mean=lfm.Fixed(0.0), covariance=lfm.Isotropic(lfm.Fixed(1.0)))
    result = lfm.evaluate.decompose((model, lfm.Guide(model, z=prior)), torch.randn(30, 4), draws=20)
    assert result.rate.mean == pytest.approx(0, abs=1e-6) and result.active_units == 0
    assert "posterior collapse" in result.verdict and "posterior collapse" in repr(result)


def test_entries_of_distributions():
    tril = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    full = entries_of(torch.distributions.MultivariateNormal(torch.ones(2), scale_tril=tril))
    assert torch.allclose(full.distribution.scale, torch.tensor([2.0, 10**0.5])) and not full.independent
    assert entries_of(torch.distributions.Dirichlet(torch.ones(3))) is None
    gamma = torch.distributions.Gamma(torch.ones(4, 2, 3), 1.0)
    each = entries_of(torch.distributions.Independent(gamma, 2))
    assert each.log_prob(torch.ones(4, 2, 3)).shape == (4, 6) and each.independent


def test_what_cannot_be_decomposed_is_refused_in_words():
    model, guide, x = linear(5)
    for change, words in [
        ({"draws": 1}, "draws must be an int of at least 2"),
        ({"pairs": 1}, "pairs must be an int of at least 2"),
        ({"betas": (-1.0,)}, "betas must be a number ≥ 0"),
        ({"active": -1.0}, "active must be"),
    ]:
        with pytest.raises(lfm.DeclarationError, match=words):
            lfm.evaluate.decompose((model, guide), x, **change)
    shared = cases.SharedScale()
    with pytest.raises(lfm.DeclarationError, match="scale is shared by all rows"):
        lfm.evaluate.decompose(
            (shared, cases.guide_for(shared, cases.GUIDES["gaussian-diagonal"])), cases.rows_of(shared)
        )
    label = cases.mixture(lfm.Gaussian(cases.D, mean=lfm.Lookup(), given="c"))
    read = lfm.Guide(label, c=lfm.Categorical(logits=lfm.MLP(4), given="x"))
    data = {**cases.rows_of(label), "c": torch.zeros(cases.N)}
    with pytest.raises(lfm.DataError, match="data hold c"):
        lfm.evaluate.decompose((label, read), data)
    with pytest.raises(lfm.DataError, match="holds no rows"):
        lfm.evaluate.decompose((model, guide))


def test_the_picture_has_a_bar_for_each_entry_and_the_guides_point():
    model, guide, x = linear(40)
    result = lfm.evaluate.decompose((model, guide), x, draws=100, pairs=2)
    bars, curve = kl_by_entry(result).axes
    heights = [patch.get_height() for patch in bars.patches]
    assert heights == sorted(result.latents["z"].kl.tolist(), reverse=True)
    assert [text.get_text() for text in bars.get_legend().get_texts()] == ["active, 2", "not active, 1"]
    at = [line.get_xdata()[0] for line in curve.lines if line.get_label() == "the guide"]
    assert at == [pytest.approx(result.rate.mean)]
    without = lfm.evaluate.decompose((model, guide), x, draws=20, pairs=2, betas=())
    assert without.curve is None and len(kl_by_entry(without).axes) == 1
