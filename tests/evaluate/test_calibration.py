"""Calibration tests of arrays and fits: the level, the power, and what each test detects."""

from types import SimpleNamespace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.evaluate.calibration import exchange
from pyro_lfm.evaluate.diagnosis import replicates


class Rows:
    """Gaussian posteriors of N rows with K correlated coordinates, and shifted and scaled draws from them."""

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
    """200 repeats of each test: at 5% 1 to 21 rejections, at 20% 23 to 60, but for one experiment in 1000."""
    p = np.array([[t.p_value for t in Rows(seed, 150, 19, 2).tests(seed).values()] for seed in range(200)])
    for level, least, most in ((0.05, 1, 21), (0.2, 23, 60)):
        rejected = (p <= level).sum(0)
        assert (rejected >= least).all() and (rejected <= most).all(), rejected


@pytest.mark.parametrize("columns", [2, 5])
def test_a_posterior_that_is_too_narrow_or_beside_the_truth_is_seen(columns):
    """At the default sizes each test that detects the fault misses it in less than 1 of 20 data sets
    (docs/calibration.md)."""
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
    """Equal labels in all members have uniform ranks too."""
    rng = np.random.default_rng(0)
    ranks = exchange.ranks_of(np.zeros((4, 4000, 1)), rng)
    assert (np.sort(ranks[:, :, 0], 0) == np.arange(4)[:, None]).all()
    assert np.abs(np.bincount(ranks[0, :, 0]) - 1000).max() < 5 * 28


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


TRUTH, DRAWS = np.zeros((30, 2)), np.zeros((9, 30, 2))
calibration = lfm.evaluate.calibration
WRONG_ARRAYS = [
    (
        lambda: calibration.variational_calibration(TRUTH, DRAWS[:, :20]),
        lfm.ShapeError,
        "truth and draws must have shapes",
    ),
    (lambda: calibration.tarp(TRUTH[:10], DRAWS[:, :10]), lfm.DataError, "at least 20 rows"),
    (
        lambda: calibration.tarp(TRUTH, DRAWS[:5]),
        lfm.DataError,
        "9 draws of each; got 30 rows and 5",
    ),
    (
        lambda: calibration.variational_calibration(TRUTH * np.nan, DRAWS),
        lfm.DataError,
        "got NaN",
    ),
    (
        lambda: calibration.variational_calibration("truth", DRAWS),
        lfm.ShapeError,
        "truth must be a tensor or an array",
    ),
    (
        lambda: calibration.variational_calibration(TRUTH, DRAWS, ["a"]),
        lfm.ShapeError,
        "one name for each",
    ),
    (
        lambda: calibration.expected_coverage(TRUTH[:, 0], DRAWS),
        lfm.ShapeError,
        "log_q_truth and log_q_draws",
    ),
    (lambda: calibration.classifier_two_sample(TRUTH, DRAWS), lfm.DataError, "at least 40 rows"),
    (
        lambda: calibration.classifier_two_sample(np.zeros((40, 1)), np.zeros((9, 40, 1)), np.zeros(40)),
        lfm.ShapeError,
        "x must have shape",
    ),
    (lambda: calibration.tarp(TRUTH, DRAWS, references=0), lfm.DeclarationError, "references"),
    (lambda: calibration.tarp(TRUTH, DRAWS, seed=-1), lfm.DeclarationError, "seed"),
    (
        lambda: calibration.predictive_check([1.0], np.zeros((5, 1))),
        lfm.DataError,
        "at least 19",
    ),
    (
        lambda: calibration.predictive_check(1.0, np.zeros((20, 1))),
        lfm.ShapeError,
        "observed and replicated",
    ),
    (lambda: calibration.predictive_check([np.inf], np.zeros((20, 1))), lfm.DataError, "finite"),
]


@pytest.mark.parametrize("call, error, words", WRONG_ARRAYS)
def test_wrong_arrays_are_refused_in_a_sentence(call, error, words):
    with pytest.raises(error, match=words):
        call()
