"""Posterior predictive checks: the level, and which faults of a model they detect."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from calibration_cases import FEW, NOISE, linear, weight_of

import pyro_lfm as lfm
from pyro_lfm import plots
from pyro_lfm.evaluate.calibration import predictive
from pyro_lfm.evaluate.diagnosis import replicates
from pyro_lfm.evaluate.likelihood.estimate import fitted


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
