"""log p(x) by importance sampling, against closed forms."""

import math

import cases
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.inference import blocks
from pyro_lfm.inference.engines import tracing


def linear(seed, rows=12, factors=3, columns=6):
    """A linear Gaussian model, a guide trained for a few steps, and rows from the model."""
    torch.manual_seed(seed)
    model = lfm.Model(z=lfm.StandardNormal(factors), x=lfm.Gaussian(columns, mean=lfm.Linear())).double()
    guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear(), covariance=lfm.Full())).double()
    svi = lfm.SVI(guide, steps=300, batch_size=rows, learning_rate=1e-2)
    return lfm.fit(model, model.sample(rows, seed=seed)["x"], svi, seed=seed, progress=False)


@pytest.mark.parametrize("seed", range(5))
def test_estimates_lie_within_their_errors_of_the_exact_value(seed):
    """60 rows in all at 5 standard errors: a false alarm in 30,000 runs of the suite, were they normal."""
    fit = linear(seed)
    result = lfm.evaluate.log_likelihood(fit, draws=2000, seed=seed)
    assert result.per_row.shape == result.standard_error.shape == (12,)
    off = (result.per_row - fit.log_likelihood()) / result.standard_error
    assert off.abs().max() < 5
    assert abs(result.mean - float(fit.log_likelihood().mean())) < 5 * result.mean_error
    assert (result.effective_sample_size <= 2000).all() and (result.effective_sample_size > 1).all()


def test_reported_errors_are_right():
    """z-scores over 200 seeds of one row: their variance is within 0.6 to 1.5 but for one run in a million."""
    fit = linear(0, rows=1)
    exact = fit.log_likelihood()
    runs = [lfm.evaluate.log_likelihood(fit, draws=400, seed=seed) for seed in range(200)]
    scores = torch.cat([(run.per_row - exact) / run.standard_error for run in runs])
    assert 0.6 < float(scores.var()) < 1.5


def test_blocks_of_draws_and_rows_of_any_number_add_up(monkeypatch):
    from pyro_lfm.evaluate.likelihood import estimate as likelihood

    fit = linear(1)
    exact = fit.log_likelihood()
    monkeypatch.setattr(blocks, "NUMBERS", 5 * 9 * 7)  # 7 draws at a time
    monkeypatch.setattr(likelihood, "_ROWS", 5)
    result = lfm.evaluate.log_likelihood(fit, draws=1000, seed=0)
    assert ((result.per_row - exact) / result.standard_error).abs().max() < 5


def test_a_compiled_evaluation_gives_the_same_numbers(monkeypatch):
    fit = linear(2)
    eager = lfm.evaluate.log_likelihood(fit, draws=500, seed=0)
    monkeypatch.setattr(blocks, "COMPILING", -1.0)
    calls = []
    native = tracing.native
    monkeypatch.setattr(tracing, "native", lambda *given: calls.append(1) or native(*given))
    compiled = lfm.evaluate.log_likelihood(fit, draws=500, seed=0)
    assert calls and torch.allclose(eager.per_row, compiled.per_row, rtol=1e-9)


def test_missing_entries_and_summed_latents_are_served():
    """A mixture's label is summed out, so that log p is exactly that of the marginal."""
    torch.manual_seed(0)
    model = cases.mixture(lfm.Gaussian(cases.D, mean=lfm.Lookup(), given="c"))
    guide = lfm.Guide(model, c=lfm.Categorical(logits=lfm.MLP(4)))
    data = model.sample(9, seed=0)["x"].clone()
    data[::2, 1] = math.nan
    fit = lfm.fit(model, data, lfm.SVI(guide, epochs=1), seed=0, progress=False)
    result = lfm.evaluate.log_likelihood(fit, draws=3)
    assert torch.allclose(result.per_row, fit.log_likelihood(), atol=1e-4)
    assert result.standard_error.max() < 1e-3


def test_a_latent_that_rows_share_is_refused_by_name():
    torch.manual_seed(0)
    model = cases.SharedScale()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-diagonal"])
    fit = lfm.fit(model, cases.rows_of(model), lfm.SVI(guide, epochs=1), seed=0, progress=False)
    with pytest.raises(lfm.DeclarationError, match="scale is shared by all rows"):
        lfm.evaluate.log_likelihood(fit, draws=10)


def test_a_compiled_reconstruction_gives_the_same_numbers(monkeypatch):
    """Blocks of rows, of which the last is smaller, and several observed variables."""
    from pyro_lfm.inference.queries import reconstruction

    torch.manual_seed(0)
    model = cases.two_views()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    data = cases.rows_of(model)
    fit = lfm.fit(model, data, lfm.SVI(guide, epochs=1), seed=0, progress=False)
    monkeypatch.setattr(reconstruction, "_ROWS", 5)
    eager = fit.reconstruct(data, draws=3)
    monkeypatch.setattr(blocks, "COMPILING", -1.0)
    calls = []
    native = tracing.native
    monkeypatch.setattr(tracing, "native", lambda *given: calls.append(1) or native(*given))
    compiled = fit.reconstruct(data, draws=3)
    assert calls and eager["x"].shape == (12, cases.D) and eager["y"].shape == (12, 2)
    for name in eager:
        assert torch.allclose(eager[name], compiled[name], rtol=1e-4, atol=1e-5)


def test_what_a_distribution_refuses_is_told_by_a_compiled_evaluation_too(monkeypatch):
    """A row that the distribution refuses only during the evaluation, with the distribution's own message."""
    import pyro
    import pyro.distributions as dist

    class Checked(lfm.PyroModel):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(1.0))

        def forward(self, batch):
            with batch.plate():
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(z, self.scale).to_event(1), obs=batch["x"])

    torch.manual_seed(0)
    model = Checked()
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    fit = lfm.fit(model, torch.randn(10, 2), lfm.SVI(guide, epochs=1), seed=0, progress=False)
    monkeypatch.setattr(tracing, "native", lambda graph, inputs: graph)
    monkeypatch.setattr(blocks, "COMPILING", -1.0)
    of_rows = blocks.Blocks(model, guide, fit.batch_of()[0], 5, 0)
    weigh = lfm.ImportanceWeightedELBO(3)
    evaluated = blocks.Evaluation(of_rows, lambda batch: weigh.log_weights(model, guide, batch))
    with of_rows.running():
        first, second = of_rows
        assert evaluated(first).shape == (3, 5) and evaluated.native is not None
        model.scale.data.fill_(-1.0)
        with pytest.raises(ValueError, match="scale"):
            evaluated(second)
