"""Tests of a guide and its model: how often they cry wolf, what they see, and what they are blind to by design."""

from types import SimpleNamespace

import cases
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm import plots
from pyro_lfm.evaluate.calibration import exchange, predictive
from pyro_lfm.evaluate.diagnosis import replicates, simulation
from pyro_lfm.evaluate.likelihood.estimate import fitted
from pyro_lfm.inference import blocks
from pyro_lfm.inference.engines import tracing

# lfm.evaluate.diagnose is the function, and so are others of the folder.
NOISE = 0.7
FEW = {"rows": 200, "draws": 39, "replicates": 139, "weights": 50}


class Rows:
    """Gaussian posteriors of N rows and draws from them, moved and stretched; K coordinates that are correlated."""

    def __init__(self, seed, rows, draws, columns, shift=0.0, scale=1.0, apart=False):
        rng = np.random.default_rng([seed, columns])
        mix = np.random.default_rng(columns).normal(size=(columns, columns)) + np.eye(columns)
        covariance = mix @ mix.T
        tril, deviation = np.linalg.cholesky(covariance), np.sqrt(covariance.diagonal())
        mean = 2 * deviation * rng.normal(size=(rows, columns))
        self.x = mean
        self.truth = mean + rng.normal(size=(rows, columns)) @ tril.T
        distribution = np.diag(deviation) if apart else tril
        centre = mean + shift * deviation
        self.draws = centre + scale * rng.normal(size=(draws, rows, columns)) @ distribution.T
        p, q = (np.linalg.inv(m @ m.T) for m in (tril, distribution))
        self.log_p = [
            -0.5 * np.einsum("...i,ij,...j", z - mean, p, z - mean) for z in (self.truth, self.draws)
        ]
        self.log_q = [
            -0.5 * np.einsum("...i,ij,...j", z - centre, q, z - centre) for z in (self.truth, self.draws)
        ]

    def tests(self, seed):
        quantities = {"log q": self.log_q, "log p": self.log_p}
        return {
            "sbc": lfm.evaluate.calibration.simulation_based_calibration(
                self.truth, self.draws, None, quantities, seed=seed
            ),
            "vsbc": lfm.evaluate.calibration.variational_calibration(self.truth, self.draws, seed=seed),
            "coverage": lfm.evaluate.calibration.expected_coverage(*self.log_q, seed=seed),
            "tarp": lfm.evaluate.calibration.tarp(self.truth, self.draws, seed=seed),
            "two_sample": lfm.evaluate.calibration.classifier_two_sample(
                self.truth, self.draws, self.x, seed=seed
            ),
        }


def test_exact_posteriors_are_rejected_as_often_as_the_level_says():
    """200 repeats at 5%: 1 to 21 rejections but for one experiment in 1000, of each test; so at 20% and 23 to 60."""
    p = np.array([[t.p_value for t in Rows(seed, 150, 19, 2).tests(seed).values()] for seed in range(200)])
    for level, least, most in ((0.05, 1, 21), (0.2, 23, 60)):
        rejected = (p <= level).sum(0)
        assert (rejected >= least).all() and (rejected <= most).all(), rejected


@pytest.mark.parametrize("columns", [2, 5])
def test_a_posterior_that_is_too_narrow_or_beside_the_truth_is_seen(columns):
    """At the default sizes each test that looks for it misses in less than one data set of twenty (docs/calibration.md)."""
    for seed in range(3):
        narrow = Rows(seed, 1000, 100, columns, scale=0.8).tests(seed)
        beside = Rows(seed, 1000, 100, columns, shift=0.3).tests(seed)
        for name in ("sbc", "coverage", "tarp", "two_sample"):
            assert narrow[name].p_value <= 0.05, (name, seed)
        for name in ("sbc", "vsbc", "tarp", "two_sample"):
            assert beside[name].p_value <= 0.05, (name, seed)
        assert "too close together" in narrow["sbc"].verdict
        assert "overconfident" in narrow["coverage"].verdict and "overconfident" in narrow["tarp"].verdict
        assert "too high" in beside["vsbc"].verdict


def test_symmetry_is_blind_to_spread():
    """50 repeats: at most 9 rejections at 5% but for one experiment in 1000."""
    result = [Rows(seed, 300, 19, 2, scale=0.5) for seed in range(50)]
    p = [
        lfm.evaluate.calibration.variational_calibration(each.truth, each.draws, seed=seed).p_value
        for seed, each in enumerate(result)
    ]
    assert sum(value <= 0.05 for value in p) <= 9


def test_correlations_that_are_missed_show_in_joint_quantities_alone():
    rows = Rows(0, 1000, 100, 3, apart=True)
    assert (
        lfm.evaluate.calibration.simulation_based_calibration(rows.truth, rows.draws, seed=0).p_value > 0.05
    )
    joint = lfm.evaluate.calibration.simulation_based_calibration(
        rows.truth, rows.draws, None, {"log p": rows.log_p}
    )
    assert joint.p_value <= 0.001 and "log p: higher at the truth than at draws" in joint.verdict
    assert joint.coordinates == 3 and joint.ranks.p_values[:3].min() > 0.05
    assert lfm.evaluate.calibration.classifier_two_sample(rows.truth, rows.draws).p_value <= 0.001


def test_truths_where_q_has_no_mass():
    """q is uniform over two deviations about the mean: log q(z*) is −∞ in a third of the rows."""
    rng = np.random.default_rng(0)
    truth, draws = rng.normal(size=400), rng.uniform(-1, 1, size=(49, 400))
    log_q = [np.where(np.abs(z) < 1, -np.log(2), -np.inf) for z in (truth, draws)]
    result = lfm.evaluate.calibration.expected_coverage(*log_q)
    assert "overconfident" in result.verdict and result.coverage[0, -1] < 0.75
    columns = [np.stack(pair, -1) for pair in zip((truth, draws), log_q, strict=True)]
    assert lfm.evaluate.calibration.classifier_two_sample(*columns).p_value == 0.001
    sums = replicates._sums(torch.randn(9, 4, 5), torch.full((9, 4), -torch.inf), None)
    assert sums["likelihood"].isfinite().all()


def test_a_curve_leaves_its_band_where_the_test_rejects():
    for seed in range(30):
        result = lfm.evaluate.calibration.simulation_based_calibration(
            *(lambda r: (r.truth, r.draws))(Rows(seed, 100, 19, 2, shift=0.2)), seed=seed
        ).ranks
        outside = ((result.shares - result.levels).abs() > result.band + 1e-12).any(1)
        assert torch.equal(outside, result.p_values <= 0.05)
        assert bool(outside.any()) == (result.p_value <= 0.05)
        assert (result.counts.sum(1) == 100).all() and result.rows == 100 and result.draws == 19


def test_ties_are_broken_at_random():
    """Labels alike in all members: ranks are uniform all the same."""
    rng = np.random.default_rng(0)
    ranks = exchange.ranks_of(np.zeros((4, 4000, 1)), rng)
    assert (np.sort(ranks[:, :, 0], 0) == np.arange(4)[:, None]).all()
    assert np.abs(np.bincount(ranks[0, :, 0]) - 1000).max() < 5 * 28


# Models and guides ----------------------------------------------------------------------------------------


def linear(alike=0.0):
    """x | z ~ N(W z, NOISE² I), factors the more correlated given x the larger ``alike``."""
    weight = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double() + alike
    mean = lfm.Linear(weight=lfm.Fixed(weight), bias=lfm.Fixed(0.0))
    noise = lfm.Isotropic(lfm.Fixed(NOISE**2))
    return lfm.Model(z=lfm.StandardNormal(3), x=lfm.Gaussian(5, mean=mean, covariance=noise)).double()


class Altered(torch.nn.Module):
    """The exact posterior of ``linear``, as a plain module, moved and stretched."""

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


def weight_of(model):
    return model.factors["x"](torch.eye(3).double()).mean.T


def test_log_densities_and_latents_of_simulated_rows_are_those_of_the_closed_form():
    model = linear()
    weight = weight_of(model)
    data = model.sample(30, seed=0)["x"]
    done = fitted((model, lfm.ExactPosterior(model)), data)
    made = simulation.simulate(done, done.rows_of(), rows=40, draws=9, seed=0)
    assert made.names == ("z[0]", "z[1]", "z[2]") and made.draws.shape == (9, 40, 3)
    posterior = Altered(weight)
    distribution = torch.distributions.MultivariateNormal(
        made.x @ posterior.gain.T, scale_tril=posterior.scale_tril
    )
    assert torch.allclose(distribution.log_prob(made.truth), made.log_q_truth)
    assert torch.allclose(distribution.log_prob(made.draws), made.log_q_draws)
    for z, log_p in ((made.truth, made.log_p_truth), (made.draws, made.log_p_draws)):
        prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
        noise = torch.distributions.Normal(z @ weight.T, NOISE).log_prob(made.x).sum(-1)
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
    """Draws from the prior, whatever the data."""

    def forward(self, batch):
        with batch.plate():
            pyro.sample("z", dist.Normal(torch.zeros(3).double(), 1.0).to_event(1))


def test_a_guide_that_ignores_the_data_has_uniform_ranks_of_coordinates_and_is_flagged():
    model = linear()
    result = lfm.evaluate.diagnose((model, PriorAlone()), model.sample(50, seed=0)["x"], **FEW)
    assert result.sbc.ranks.p_values[:3].min() > 0.05 and "log p(x, z): higher" in result.sbc.verdict
    assert {"sbc", "two_sample"} <= set(result.flagged())


@pytest.mark.parametrize(
    ("matter", "words"),
    [
        ("tails", "heavier tails"),
        ("variance", "vary more"),
        ("column", "variances of some columns are off"),
        ("factor", "correlated beyond what z explains"),
        ("shift", "means of some columns are off"),
    ],
)
def test_data_that_the_model_does_not_make_are_seen(matter, words):
    model = linear()
    x = model.sample(500, seed=0)["x"].clone()
    torch.manual_seed(0)
    if matter == "tails":
        z = torch.randn(500, 3).double()
        x = z @ weight_of(model).T + NOISE * dist.StudentT(3.0).sample(x.shape).double() / 3**0.5
    elif matter == "variance":
        x += 0.6 * torch.randn_like(x)
    elif matter == "column":
        x[:, 2] += 1.2 * torch.randn(500).double()
    elif matter == "factor":
        x += torch.randn(500, 1).double() * torch.tensor([1.0, -1.0, 0.5, 0.5, 1.0]).double()
    else:
        x[:, 1] += 1.0
    result = lfm.evaluate.diagnose((model, lfm.ExactPosterior(model)), x, rows=100, draws=19)
    assert result.flagged() == ("predictive",) and "guide passes" in result.verdict
    described = {
        name: bool(p <= 0.05)
        for name, p in zip(result.predictive.names, result.predictive.p_values, strict=True)
    }
    named = next(name for name, both in predictive.STATISTICS.items() if any(words in each for each in both))
    assert described[named], result.predictive.verdict


def test_counts_with_more_zeros_than_the_model_makes():
    class Counts(lfm.PyroModel):
        def forward(self, batch):
            with batch.plate():
                rate = pyro.sample("rate", dist.Gamma(3.0, 1.0))
                pyro.sample(
                    "x", dist.Poisson(rate.unsqueeze(-1).expand(*rate.shape, 6)).to_event(1), obs=batch["x"]
                )

    def posterior(batch):
        with batch.plate():
            pyro.sample("rate", dist.Gamma(3.0 + batch["x"].sum(-1), torch.tensor(7.0)))

    model = Counts()
    x = model.sample(400, seed=0)["x"]
    fine = lfm.evaluate.diagnose((model, posterior), x, **FEW)
    assert fine.flagged() == () and "zeros" in fine.predictive.names
    gone = x * (torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) > 0.15)
    result = lfm.evaluate.diagnose((model, posterior), gone, **FEW)
    zeros = result.predictive.names.index("zeros")
    assert result.flagged() == ("predictive",) and result.predictive.p_values[zeros] <= 0.05


def test_predictive_p_values_are_uniform_under_the_model():
    """60 repeats at 20%: 3 to 23 rejections but for one experiment in 1000."""
    model = linear()
    guide = lfm.ExactPosterior(model)
    fit = fitted((model, guide), model.sample(2, seed=0)["x"])
    p = []
    for seed in range(60):
        x = model.sample(40, seed=seed)["x"].clone()
        x[:10, 0] = torch.nan
        names, statistics = replicates.statistics_of(model, guide, fit.rows_of(x), 39, seed + 10**6)
        p.append(lfm.evaluate.calibration.predictive_check(statistics[0], statistics[1:], names).p_value)
    assert 3 <= sum(value <= 0.2 for value in p) <= 23


def test_data_that_differ_where_all_replicates_are_alike():
    result = lfm.evaluate.calibration.predictive_check(
        [3.0, 1.0], torch.ones(99, 2), names=["zeros", "other"]
    )
    assert result.p_value == 0.01 and result.p_values[1] == 1
    assert "more zeros (all replicates are alike)" in result.verdict
    assert result.standardised[0].tolist() == [float("inf"), 0.0]
    assert len(plots.predictive_check(result).axes) == 1


def test_missing_entries_are_missing_in_simulated_rows_and_replicates_too():
    model = linear()
    x = model.sample(300, seed=0)["x"].clone()
    x[::2, :2] = torch.nan
    fit = fitted((model, lfm.ExactPosterior(model)), x)
    made = simulation.simulate(fit, fit.rows_of(x), 400, 9, 0)
    gaps = made.x.isnan()
    assert torch.equal(gaps[:, 0], gaps[:, 1]) and not gaps[:, 2:].any()
    assert 0.4 < float(gaps[:, 0].double().mean()) < 0.6
    result = lfm.evaluate.diagnose(fit, x)
    assert result.flagged() == () and result.pareto.observed.unique().tolist() == [3.0, 5.0]
    # What stands where entries are missing makes no difference.
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
    columns = {"factor-analysers": "c = 1", "mixture-diagonal": "c = 2", "matrix-events": "z[2, 0]"}
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
    made = []
    native = tracing.native
    monkeypatch.setattr(tracing, "native", lambda *given: made.append(1) or native(*given))
    compiled = simulation.simulate(fit, fit.rows_of(), 40, 9, 0)
    assert made and torch.allclose(eager.draws, compiled.draws, atol=1e-5)
    assert torch.allclose(eager.log_p_draws, compiled.log_p_draws, atol=1e-4)


def test_what_cannot_be_served_is_refused_in_words():
    truth, draws = np.zeros((30, 2)), np.zeros((9, 30, 2))
    evaluate = lfm.evaluate
    for call, error, words in [
        (
            lambda: evaluate.calibration.variational_calibration(truth, draws[:, :20]),
            lfm.ShapeError,
            "truth and draws must have shapes",
        ),
        (lambda: evaluate.calibration.tarp(truth[:10], draws[:, :10]), lfm.DataError, "at least 20 rows"),
        (
            lambda: evaluate.calibration.tarp(truth, draws[:5]),
            lfm.DataError,
            "9 draws of each; got 30 rows and 5",
        ),
        (
            lambda: evaluate.calibration.variational_calibration(truth * np.nan, draws),
            lfm.DataError,
            "got NaN",
        ),
        (
            lambda: evaluate.calibration.variational_calibration("truth", draws),
            lfm.ShapeError,
            "truth must be a tensor or an array",
        ),
        (
            lambda: evaluate.calibration.variational_calibration(truth, draws, ["a"]),
            lfm.ShapeError,
            "one name for each",
        ),
        (
            lambda: evaluate.calibration.expected_coverage(truth[:, 0], draws),
            lfm.ShapeError,
            "log_q_truth and log_q_draws",
        ),
        (lambda: evaluate.calibration.classifier_two_sample(truth, draws), lfm.DataError, "at least 40 rows"),
        (
            lambda: evaluate.calibration.classifier_two_sample(
                np.zeros((40, 1)), np.zeros((9, 40, 1)), np.zeros(40)
            ),
            lfm.ShapeError,
            "x must have shape",
        ),
        (lambda: evaluate.calibration.tarp(truth, draws, references=0), lfm.DeclarationError, "references"),
        (lambda: evaluate.calibration.tarp(truth, draws, seed=-1), lfm.DeclarationError, "seed"),
        (
            lambda: evaluate.calibration.predictive_check([1.0], np.zeros((5, 1))),
            lfm.DataError,
            "at least 19",
        ),
        (
            lambda: evaluate.calibration.predictive_check(1.0, np.zeros((20, 1))),
            lfm.ShapeError,
            "observed and replicated",
        ),
        (lambda: evaluate.calibration.predictive_check([np.inf], np.zeros((20, 1))), lfm.DataError, "finite"),
    ]:
        with pytest.raises(error, match=words):
            call()
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


def test_several_tests_are_corrected_for_one_after_the_other():
    """Holm: 0.05/6, 0.05/5, and 0.05/4 = 0.0125 < 0.0126."""
    p = {"sbc": 0.009, "vsbc": 0.5, "coverage": 0.001, "tarp": 0.0126, "two_sample": 0.6, "predictive": 0.7}
    stubs = {name: SimpleNamespace(p_value=value, verdict=name) for name, value in p.items()}
    result = lfm.evaluate.Diagnosis(pareto=SimpleNamespace(), rows=100, draws=9, **stubs)
    assert result.flagged() == ("coverage", "sbc") and result.p_value == pytest.approx(0.006)
    assert result.flagged(0.005) == () and result.verdict.startswith(
        "The guide is not the posterior: coverage, sbc"
    )
    for level in (0.0, 1.0, "a"):
        with pytest.raises(lfm.DeclarationError, match="level must be"):
            result.flagged(level)
    mild = {name: SimpleNamespace(p_value=0.04 if name == "sbc" else 0.5, verdict="") for name in p}
    words = lfm.evaluate.Diagnosis(pareto=SimpleNamespace(), rows=100, draws=9, **mild).verdict
    assert words == "No test rejects when all are taken together. Alone sbc would: simulate more rows."


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


# Pictures -------------------------------------------------------------------------------------------------


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
    assert labels == ["z[0]", "z[1]", "z[2]", "log q(z | x)", "log p(x, z)"]
    with pytest.raises(lfm.DeclarationError, match="this picture is of a Coverage.*got TwoSample"):
        plots.region_coverage(result.two_sample)


def test_a_guide_without_mass_where_the_truth_lies_is_flagged():
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lfm.Linear())).double()

    class Box(lfm.PyroGuide):
        def forward(self, batch):
            with batch.plate():
                edge = torch.ones(batch.size, 2).double()
                pyro.sample("z", dist.Uniform(-edge, edge).to_event(1))

    result = lfm.evaluate.diagnose(
        (model, Box()), model.sample(50, seed=0)["x"], rows=100, draws=19, replicates=39
    )
    assert "coverage" in result.flagged()


def test_one_infinite_draw_hides_nothing():
    rng = torch.Generator().manual_seed(0)
    mean, noise = torch.randn(300, 2, generator=rng), torch.randn(40, 300, 2, generator=rng)
    truth, draws = mean + torch.randn(300, 2, generator=rng), mean + 0.5 * noise
    draws[3, 7, 0] = torch.inf
    assert lfm.evaluate.calibration.tarp(truth, draws).p_value < 0.01
    assert lfm.evaluate.calibration.classifier_two_sample(truth, 1e200 * draws.double()).p_value < 0.01


def test_arguments_that_do_not_fit_are_named():
    truth, draws = torch.randn(50, 2), torch.randn(20, 50, 2)
    sbc = lfm.evaluate.calibration.simulation_based_calibration
    with pytest.raises(
        lfm.ShapeError, match=r"quantities\['a'\] must be of the same N=50 rows and L=20 draws"
    ):
        sbc(truth, draws, quantities={"a": (torch.randn(40), torch.randn(20, 40))})
    with pytest.raises(lfm.DataError, match="quantities must be"):
        sbc(truth, draws, quantities=[truth])
    with pytest.raises(lfm.DataError, match="names must be a list of 2 names"):
        sbc(truth, draws, names=3)
    with pytest.raises(lfm.ShapeError, match="truth and draws must have shapes"):
        lfm.evaluate.calibration.variational_calibration(truth[:, :0], draws[:, :, :0])
    with pytest.raises(lfm.ShapeError, match="x must be"):
        lfm.evaluate.calibration.classifier_two_sample(truth, draws, x="x")
    with pytest.raises(lfm.ShapeError, match="observed must be a tensor"):
        lfm.evaluate.calibration.predictive_check("a", "b")
