"""The parts of a bound: truths of linear models, every guide and prior, collapse, refusals."""

import math

import cases
import pytest
import torch
from decomposition_cases import WEIGHT, linear, tempered

import pyro_lfm as lfm
from pyro_lfm.distributions.entrywise import entries_of
from pyro_lfm.evaluate.decomposition import aggregate, nats
from pyro_lfm.inference import blocks
from pyro_lfm.inference.engines import tracing
from pyro_lfm.plots import kl_by_entry


def test_of_a_linear_gaussian_model_all_parts_are_known():
    """Within 5 standard errors of the draws, about 20 numbers: a false alarm in 80,000 runs. The N = 1500 rows are of the
    model, so q(z) is close to p(z) and I to ½ log |M|, within 4 standard errors of the rows."""
    model, guide, x = linear(1500)
    result = lfm.evaluate.decompose((model, guide), x, draws=400, pairs=4, betas=())
    rate, distortion, covariance, mean = tempered(x, 1.0)
    assert torch.allclose(result.rate.per_row, rate) and result.rate.draws_error < 1e-7
    off = result.reconstruction.mean + distortion.mean()
    assert abs(off) < 5 * result.reconstruction.draws_error and result.reconstruction.draws_error > 0
    bound = float((result.bound.per_row - (-distortion - rate)).mean())
    assert abs(bound) < 5 * result.bound.draws_error
    # The surgery holds exactly for the estimates.
    assert torch.allclose(result.information.per_row + result.aggregate.per_row, result.rate.per_row)
    known = 0.5 * float((torch.eye(3) + WEIGHT.T @ WEIGHT).double().logdet())
    assert abs(result.information.mean - known) < 4 * result.information.rows_error
    assert result.information.draws_error < 0.2 * result.information.rows_error
    assert result.information.mean < result.information_upper.mean
    assert abs(result.aggregate.mean) < 4 * result.aggregate.rows_error + 3 / 1500 * 3
    # Marginals of the entries, and the part of their dependence: KL = Σ KL_k + ½ [Σ log C_kk − log |C|].
    units = result.latents["z"]
    variance = covariance.diagonal()
    each = 0.5 * (variance + mean.square() - 1 - variance.log()).mean(0)
    assert torch.allclose(units.kl, each)
    assert units.rest == pytest.approx(0.5 * float(variance.log().sum() - covariance.logdet()))
    assert torch.allclose(units.variance, mean.var(0))
    assert units.active.tolist() == [True, True, False] and result.active_units == 2
    assert "2 of 3 entries of z are active; 1 carries under 0.01 nats" in result.verdict


def test_information_is_zero_for_equal_rows_and_log_n_for_distant_rows():
    model, guide, x = linear(1, weight=20 * torch.eye(3))
    same = lfm.evaluate.decompose((model, guide), x.expand(50, -1), draws=20)
    assert same.information.per_row.abs().max() < 1e-9 and same.information.draws_error < 1e-9
    assert same.aggregate.mean == pytest.approx(same.rate.mean, abs=1e-9)
    far = 1000 * torch.arange(50.0).double().unsqueeze(1) * torch.ones(3).double()
    apart = lfm.evaluate.decompose((model, guide), far, draws=20)
    assert torch.allclose(apart.information.per_row, torch.full((50,), math.log(50)).double())
    assert "near its limit log 50 = 3.91" in apart.verdict
    assert apart.information_upper.mean > 1000
    assert "a learned prior" in apart.verdict


def test_blocks_of_rows_and_draws_give_the_same(monkeypatch):
    """The draws differ, so the results agree within 6 standard errors of both."""
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
    calls = []
    native = tracing.native
    monkeypatch.setattr(tracing, "native", lambda *given: calls.append(1) or native(*given))
    compiled = lfm.evaluate.decompose((model, guide), data, draws=50, betas=())
    assert calls and torch.allclose(eager.bound.per_row, compiled.bound.per_row, atol=1e-4)
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
    """q(a, b | x) = q(a | x) q(b | a, x), with every pair computed by hand."""
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


def test_the_verdict_names_posterior_collapse():
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


def test_models_that_cannot_be_decomposed_are_refused_in_a_sentence():
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
