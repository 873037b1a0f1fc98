"""A diagnosis of guides and models: simulated rows, which guides are flagged, models of every kind, refusals."""

import cases
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from calibration_cases import FEW, NOISE, linear, weight_of

import pyro_lfm as lfm
from pyro_lfm import plots
from pyro_lfm.evaluate.diagnosis import replicates, simulation
from pyro_lfm.evaluate.likelihood.estimate import fitted
from pyro_lfm.inference import blocks
from pyro_lfm.inference.engines import tracing


class Altered(torch.nn.Module):
    """The exact posterior of ``linear`` as a plain module, shifted and scaled."""

    def __init__(self, weight, shift=0.0, scale=1.0):
        super().__init__()
        covariance = torch.linalg.inv(torch.eye(weight.shape[1]).double() + weight.T @ weight / NOISE**2)
        self.gain, self.shift = covariance @ weight.T / NOISE**2, shift * covariance.diagonal().sqrt()
        self.scale_tril = scale * torch.linalg.cholesky(covariance)

    def forward(self, batch):
        with batch.plate():
            mean = batch["x"] @ self.gain.T + self.shift
            pyro.sample("z", dist.MultivariateNormal(mean, scale_tril=self.scale_tril))


class ByHand(lfm.PyroModel):
    """``linear`` as a program."""

    def __init__(self, weight):
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, batch):
        with batch.plate():
            z = pyro.sample("z", dist.Normal(torch.zeros(3).double(), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.weight.T, NOISE).to_event(1), obs=batch["x"])


def test_log_densities_and_latents_of_simulated_rows_are_those_of_the_closed_form():
    model = linear()
    weight = weight_of(model)
    data = model.sample(30, seed=0)["x"]
    done = fitted((model, lfm.ExactPosterior(model)), data)
    simulated = simulation.simulate(done, done.rows_of(), rows=40, draws=9, seed=0)
    assert simulated.names == ("z_1", "z_2", "z_3") and simulated.draws.shape == (9, 40, 3)
    posterior = Altered(weight)
    distribution = torch.distributions.MultivariateNormal(
        simulated.x @ posterior.gain.T, scale_tril=posterior.scale_tril
    )
    assert torch.allclose(distribution.log_prob(simulated.truth), simulated.log_q_truth)
    assert torch.allclose(distribution.log_prob(simulated.draws), simulated.log_q_draws)
    for z, log_p in ((simulated.truth, simulated.log_p_truth), (simulated.draws, simulated.log_p_draws)):
        prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
        noise = torch.distributions.Normal(z @ weight.T, NOISE).log_prob(simulated.x).sum(-1)
        assert torch.allclose(prior + noise, log_p)


@pytest.mark.parametrize("hand", [False, True])
def test_guides_and_models_by_hand_are_served(hand):
    model = linear()
    weight = weight_of(model)
    model = ByHand(weight) if hand else model
    data = model.sample(200, seed=0)["x"]
    exact = lfm.evaluate.diagnose((model, Altered(weight)), data, seed=1)
    assert exact.flagged() == () and exact.verdict.startswith("No test rejects")
    narrow = lfm.evaluate.diagnose((model, lfm.PyroGuide(Altered(weight, scale=0.8))), data, seed=1)
    assert {"sbc", "coverage", "tarp", "two_sample"} <= set(
        narrow.flagged()
    ) and "vsbc" not in narrow.flagged()
    beside = lfm.evaluate.diagnose((model, Altered(weight, shift=0.3)), data, seed=1)
    assert {"sbc", "vsbc", "tarp", "two_sample"} <= set(beside.flagged())
    assert "is not the posterior" in beside.verdict and beside.p_value <= 0.006


def test_a_mean_field_guide_of_correlated_factors_is_flagged():
    model = linear(alike=1.0)
    data = model.sample(100, seed=0)["x"]
    result = lfm.evaluate.diagnose((model, lfm.FactorisedPosterior(model)), data)
    assert {"sbc", "coverage", "tarp", "two_sample"} <= set(result.flagged())
    assert result.pareto.unreliable.any()
    exact = lfm.evaluate.diagnose((model, lfm.ExactPosterior(model)), data)
    assert exact.flagged() == () and not exact.pareto.unreliable.any()


class PriorAlone(lfm.PyroGuide):
    """Draws from the prior, for all data."""

    def forward(self, batch):
        with batch.plate():
            pyro.sample("z", dist.Normal(torch.zeros(3).double(), 1.0).to_event(1))


def test_a_guide_that_ignores_the_data_has_uniform_ranks_of_coordinates_and_is_flagged():
    model = linear()
    result = lfm.evaluate.diagnose((model, PriorAlone()), model.sample(50, seed=0)["x"], **FEW)
    assert result.sbc.ranks.p_values[:3].min() > 0.05 and "log p(x, z): higher" in result.sbc.verdict
    assert {"sbc", "two_sample"} <= set(result.flagged())


def test_missing_entries_are_missing_in_simulated_rows_and_replicates_too():
    model = linear()
    x = model.sample(300, seed=0)["x"].clone()
    x[::2, :2] = torch.nan
    fit = fitted((model, lfm.ExactPosterior(model)), x)
    simulated = simulation.simulate(fit, fit.rows_of(x), 400, 9, 0)
    gaps = simulated.x.isnan()
    assert torch.equal(gaps[:, 0], gaps[:, 1]) and not gaps[:, 2:].any()
    assert 0.4 < float(gaps[:, 0].double().mean()) < 0.6
    result = lfm.evaluate.diagnose(fit, x)
    assert result.flagged() == () and result.pareto.observed.unique().tolist() == [3.0, 5.0]
    # The values at missing entries have no effect.
    members, log_p = (torch.randn(9, 4, 5).double(), torch.randn(9, 4).double())
    members[:, 1, 3] = torch.nan
    sums = replicates._sums(members, log_p, None)
    assert all(bool(value.isfinite().all()) for value in sums.values())


@pytest.mark.parametrize("name", ["factor-analysers", "mixture-diagonal", "matrix-events"])
def test_labels_several_latents_and_matrices_with_their_exact_posterior(name):
    torch.manual_seed(0)
    model = cases.CLOSED_FORMS[name]().double()
    result = lfm.evaluate.diagnose((model, lfm.ExactPosterior(model)), cases.rows_of(model, 60), **FEW)
    assert result.flagged() == (), result
    columns = {"factor-analysers": "c = 1", "mixture-diagonal": "c = 2", "matrix-events": "z_3"}
    assert columns[name] in result.vsbc.names


@pytest.mark.parametrize("name", ["two-layers-two-views", "three-layers", "gamma-dirichlet"])
def test_structures_are_served(name):
    torch.manual_seed(0)
    model = cases.MODELS[name]()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    result = lfm.evaluate.diagnose((model, guide), cases.rows_of(model), rows=60, draws=9, replicates=19)
    assert result.sbc.coordinates == sum(latent.shape.numel() for latent in model.latents.values())
    assert all(0 < p <= 1 for p in result.p_values.values())


def test_guides_that_are_refined_for_rows_are_refined_for_simulated_ones():
    model = cases.plain()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    fit = lfm.fit(model, cases.rows_of(model, 20), lfm.SVI(guide, epochs=1), seed=0, progress=False)
    fit.guide = lfm.Refined(guide, steps=3)
    result = lfm.evaluate.diagnose(fit, rows=40, draws=9, replicates=19, weights=20)
    assert result.rows == 40 and len(result.pareto.per_row) == 20


def test_a_seed_repeats_a_diagnosis_and_leaves_random_states_alone():
    model = linear()
    x = model.sample(60, seed=0)["x"]
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    one, two, other = (
        lfm.evaluate.diagnose((model, lfm.ExactPosterior(model)), x, seed=seed, **FEW) for seed in (3, 3, 4)
    )
    assert torch.equal(states[0], torch.get_rng_state()) and (states[1] == np.random.get_state()[1]).all()
    assert one.p_values == two.p_values != other.p_values and repr(one) == repr(two)


def test_blocks_of_rows_change_nothing_but_the_noise(monkeypatch):
    model = linear()
    x = model.sample(150, seed=0)["x"]
    monkeypatch.setattr(simulation, "_ROWS", 64)
    monkeypatch.setattr(replicates, "_NUMBERS", 64 * 140 * 5)
    result = lfm.evaluate.diagnose((model, lfm.ExactPosterior(model)), x, **FEW)
    assert result.flagged() == () and result.sbc.ranks.rows == 200
    bad = lfm.evaluate.diagnose((model, lfm.ExactPosterior(model)), 3 * x, **FEW)
    assert bad.flagged() == ("predictive",)


def test_compiled_draws_are_those_of_eager(monkeypatch):
    torch.manual_seed(0)
    model = cases.plain()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    fit = fitted((model, guide), cases.rows_of(model))
    eager = simulation.simulate(fit, fit.rows_of(), 40, 9, 0)
    monkeypatch.setattr(blocks, "COMPILING", -1.0)
    calls = []
    native = tracing.native
    monkeypatch.setattr(tracing, "native", lambda *given: calls.append(1) or native(*given))
    compiled = simulation.simulate(fit, fit.rows_of(), 40, 9, 0)
    assert calls and torch.allclose(eager.draws, compiled.draws, atol=1e-5)
    assert torch.allclose(eager.log_p_draws, compiled.log_p_draws, atol=1e-4)


def test_models_that_cannot_be_diagnosed_are_refused_in_a_sentence():
    evaluate = lfm.evaluate
    model = linear()
    pair = (model, lfm.ExactPosterior(model))
    with pytest.raises(lfm.DataError, match="holds no rows"):
        evaluate.diagnose(pair)
    with pytest.raises(lfm.DeclarationError, match="rows must be an int of at least 40"):
        evaluate.diagnose(pair, model.sample(5)["x"], rows=10)
    shared = cases.SharedScale()
    with pytest.raises(lfm.DeclarationError, match="scale is shared by all rows"):
        evaluate.diagnose(
            (shared, cases.guide_for(shared, cases.GUIDES["gaussian-full"])), cases.rows_of(shared)
        )


class Auxiliary(lfm.PyroGuide):
    """z is a function of another draw."""

    def forward(self, batch):
        with batch.plate():
            a = pyro.sample(
                "a", dist.Normal(torch.zeros(3).double(), 1.0).to_event(1), infer={"is_auxiliary": True}
            )
            pyro.sample("z", dist.Delta(a, event_dim=1))


class Plates(lfm.PyroModel):
    """Three latents of a row in a plate of their own."""

    def forward(self, batch):
        with batch.plate():
            with pyro.plate("three", 3, dim=-2):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample(
                "x", dist.Normal(z.sum(-2, keepdim=False).unsqueeze(-1), 1.0).to_event(1), obs=batch["x"]
            )


def test_guides_without_a_density_and_further_plates_are_refused_in_words():
    model = linear()
    with pytest.raises(lfm.DeclarationError, match="Auxiliary draws auxiliary variables"):
        lfm.evaluate.diagnose((model, Auxiliary()), model.sample(50, seed=0)["x"])

    def guide(batch):
        with batch.plate(), pyro.plate("three", 3, dim=-2):
            pyro.sample("z", dist.Normal(torch.zeros(3, 1), 1.0))

    with pytest.raises(lfm.DeclarationError, match="z must have shape .1000,., a value for each row"):
        lfm.evaluate.diagnose((Plates(), guide), torch.randn(50, 1))


def test_pictures_of_each_test_and_of_all():
    model = linear()
    x = model.sample(40, seed=0)["x"]
    result = lfm.evaluate.diagnose((model, PriorAlone()), x, **FEW)
    figure = plots.diagnosis(result)
    assert len(figure.axes) == 8 and "SBC" in figure.axes[0].get_title(loc="left")
    for draw, part in [
        (plots.rank_curves, result.sbc),
        (plots.symmetry_curves, result.vsbc),
        (plots.region_coverage, result.tarp),
        (plots.pareto_k, result.pareto),
        (plots.two_sample, result.two_sample),
        (plots.predictive_check, result.predictive),
    ]:
        assert len(draw(part).axes) == 1
    labels = [label.get_text() for label in plots.rank_curves(result.sbc).axes[0].get_legend().get_texts()]
    assert labels == ["$z_{1}$", "$z_{2}$", "$z_{3}$", "log q(z | x)", "log p(x, z)"]
    with pytest.raises(lfm.DeclarationError, match="this picture is of a Coverage.*got TwoSample"):
        plots.region_coverage(result.two_sample)
