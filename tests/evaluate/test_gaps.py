"""Gaps of approximation and of amortization, against closed forms of linear Gaussian models."""

import math

import cases
import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

import pyro_lfm as lfm
from pyro_lfm.closed_form import recognise
from pyro_lfm.closed_form.linear.factorised_linear import gap
from pyro_lfm.evaluate.likelihood import inference_gaps
from pyro_lfm.inference import blocks
from pyro_lfm.inference.data_boundary import table_for


def linear(covariance, seed=0, rows=12):
    """A linear Gaussian model with factors correlated given x, an untrained encoder, rows with missing entries."""
    torch.manual_seed(seed)
    weight = 0.5 * torch.randn(5, 3) + torch.tensor([[0.7], [-0.7], [0.7], [0.7], [-0.7]])
    mean = lfm.Linear(weight=lfm.Fixed(weight), bias=lfm.Fixed(torch.randn(5)))
    noise = lfm.Isotropic(lfm.Fixed(1.0))
    model = lfm.Model(z=lfm.StandardNormal(3), x=lfm.Gaussian(5, mean=mean, covariance=noise)).double()
    guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear(), covariance=covariance)).double()
    data = model.sample(rows, seed=seed)["x"].clone()
    data[::3, 0] = math.nan
    return model, guide, data


def divergence(model, guide, data):
    """KL(q ‖ p(z | x)) of each row, which is log p(x) − L[q]."""
    distributions = []
    for each in (guide, lfm.ExactPosterior(model)):
        distribution = lfm.Fit(model, each, table_for(model, data), None).posterior(data)
        variance = torch.diag_embed(distribution.variance)
        distributions.append(
            MultivariateNormal(distribution.mean, getattr(distribution, "covariance_matrix", variance))
        )
    return kl_divergence(*distributions).detach()


@pytest.mark.parametrize("trained", [0, 60])
def test_gaps_of_a_mean_field_guide_are_those_of_the_closed_form(trained):
    """At 6 standard errors from 25 estimates, 12 rows, three figures, twice: a false alarm in 4,000 runs at most. Adam stops
    within 0.01 nats of the optimum."""
    model, guide, data = linear(lfm.Diagonal())
    if trained:
        svi = lfm.SVI(guide, steps=trained, learning_rate=3e-2)
        lfm.fit(model, data, svi, seed=0, progress=False)
    result = lfm.evaluate.gaps((model, guide), data, draws=1000)
    known = gap(recognise(model).read(), data)
    assert known.min() > 0.3
    assert ((result.approximation - known).abs() < 0.01 + 6 * result.approximation_error).all()
    total = divergence(model, guide, data)
    assert ((result.total - total).abs() < 6 * result.total_error).all()
    assert ((result.amortization - (total - known)).abs() < 0.01 + 6 * result.amortization_error).all()
    assert torch.allclose(result.approximation + result.amortization, result.total)
    assert result.log_likelihood.draws == 0 and "exact" in repr(result)


def test_a_full_covariance_costs_nothing_and_the_encoder_everything():
    """The bound of an exact posterior has no variance, so the difference is the remaining error of Adam."""
    model, guide, data = linear(lfm.Full())
    result = lfm.evaluate.gaps((model, guide), data)
    assert result.approximation.abs().max() < 1e-3 and result.best_bound_error.max() < 1e-3
    total = divergence(model, guide, data)
    assert total.min() > 0.3
    assert ((result.amortization - total).abs() < 1e-3 + 6 * result.amortization_error).all()


def test_an_encoder_that_is_optimal_has_no_gap_of_amortization():
    """Both bounds have the same noise, so useless steps leave no difference and no error."""
    model, guide, data = linear(lfm.Diagonal())
    fit = lfm.fit(model, data, lfm.SVI(guide, epochs=1), seed=0, progress=False)
    result = lfm.evaluate.gaps(fit, steps=0, draws=100)
    assert result.amortization.abs().max() < 1e-9 and result.amortization_error.max() < 1e-9
    assert (result.bound_error > 0).all() and result.draws >= 100


def test_paired_noise_makes_the_error_of_the_difference_smaller():
    model, guide, data = linear(lfm.Diagonal())
    lfm.fit(model, data, lfm.SVI(guide, steps=600, learning_rate=2e-2), seed=0, progress=False)
    result = lfm.evaluate.gaps((model, guide), data)
    apart = torch.hypot(result.bound_error, result.best_bound_error)
    assert float(result.amortization_error.mean()) < 0.7 * float(apart.mean())


def test_where_no_closed_form_is_known_log_p_is_estimated_from_the_refined_guide(monkeypatch):
    """The same linear model without its closed form has the same gaps within the errors of both."""
    model, guide, data = linear(lfm.Diagonal())
    exact = lfm.evaluate.gaps((model, guide), data, steps=200)
    monkeypatch.setattr(inference_gaps, "has_exact_likelihood", lambda model: False)
    result = lfm.evaluate.gaps((model, guide), data, steps=200)
    assert result.log_likelihood.draws == 4000 and (result.log_likelihood.standard_error > 0).all()
    off = (result.approximation - exact.approximation).abs()
    assert (off < 6 * result.approximation_error).all()
    assert "importance sampling, 4000 draws" in repr(result) and "k̂" in repr(result)


def test_rows_in_blocks_and_a_guide_that_is_refined_already(monkeypatch):
    model, guide, data = linear(lfm.Diagonal())
    one = lfm.evaluate.gaps((model, lfm.Refined(guide, steps=3)), data, steps=50, draws=50)
    other = lfm.evaluate.gaps((model, guide), data, steps=50, draws=50)
    assert torch.equal(one.amortization, other.amortization)
    monkeypatch.setattr(inference_gaps, "_ROWS", 5)
    monkeypatch.setattr(blocks, "NUMBERS", 5 * 8 * 4)
    parts = lfm.evaluate.gaps((model, guide), data, steps=300, draws=200)
    known = gap(recognise(model).read(), data)
    assert ((parts.approximation - known).abs() < 0.02 + 6 * parts.approximation_error).all()


def test_labels_are_served():
    torch.manual_seed(0)
    model = cases.mixture(lfm.Gaussian(cases.D, mean=lfm.Lookup(), given="c"))
    guide = lfm.Guide(model, c=lfm.Categorical(logits=lfm.MLP(4)))
    data = model.sample(6, seed=0)["x"]
    result = lfm.evaluate.gaps((model, guide), data, steps=300, learning_rate=0.3, draws=50)
    # The distribution of a label can have any probabilities.
    assert result.approximation.abs().max() < 1e-2 and result.amortization.min() > -1e-4
    assert result.total.max() > 1e-2


def test_what_cannot_be_refined_is_refused_by_name():
    model, guide, data = linear(lfm.Diagonal())
    with pytest.raises(lfm.DeclarationError, match="gaps needs an lfm.Guide.*ExactPosterior"):
        lfm.evaluate.gaps((model, lfm.ExactPosterior(model)), data)
    table = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.PerRow(), covariance=lfm.Diagonal(lfm.PerRow())))
    with pytest.raises(lfm.DeclarationError, match="PerRow tables is already optimised"):
        lfm.evaluate.gaps((model, table.double()), data)
    with pytest.raises(lfm.DeclarationError, match="draws must be an int of at least 50"):
        lfm.evaluate.gaps((model, guide), data, draws=10)
    with pytest.raises(lfm.DataError, match="holds no rows"):
        lfm.evaluate.gaps((model, guide))


def test_a_compiled_evaluation_has_the_same_noise(monkeypatch):
    """Two views. Only the encoder's bound is compiled, as tables of rows are read in the eager engine."""
    from pyro_lfm.inference.engines import tracing

    torch.manual_seed(0)
    model = cases.two_views()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    data = cases.rows_of(model)
    eager = lfm.evaluate.gaps((model, guide), data, steps=20, draws=50)
    monkeypatch.setattr(blocks, "COMPILING", -1.0)
    calls = []
    native = tracing.native
    monkeypatch.setattr(tracing, "native", lambda *given: calls.append(1) or native(*given))
    compiled = lfm.evaluate.gaps((model, guide), data, steps=20, draws=50)
    assert calls and torch.allclose(eager.amortization, compiled.amortization, atol=1e-4)
    assert (eager.amortization > -1e-4).all()


def test_a_latent_that_rows_share_is_refused_by_name():
    torch.manual_seed(0)
    model = cases.SharedScale()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-diagonal"])
    with pytest.raises(lfm.DeclarationError, match="scale is shared by all rows"):
        lfm.evaluate.gaps((model, guide), cases.rows_of(model), steps=2)
