"""Scores of hidden entries: against the conditional distributions of a linear Gaussian model, and of labels that are
known."""

import math

import cases
import pytest
import torch
from torch.distributions import Normal

import pyro_lfm as lfm
from pyro_lfm import plots
from pyro_lfm.evaluate.imputation import hidden_entries
from pyro_lfm.evaluate.imputation.scores import fair_crps


def known(rows, seed=0, spread=1.0):
    """A linear Gaussian model, its exact posterior, rows, and C; ``spread`` is the factor by which its noise is too
    small."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, 2, generator=generator).double()
    noise = 0.3 + torch.rand(5, generator=generator).double()

    def model(variance):
        mean = lfm.Linear(weight=lfm.Fixed(weight), bias=lfm.Fixed(torch.arange(5.0)))
        x = lfm.Gaussian(5, mean=mean, covariance=lfm.Diagonal(lfm.Fixed(variance)))
        return lfm.Model(z=lfm.StandardNormal(2), x=x).double()

    x = model(noise).sample(rows, seed=seed)["x"]
    fitted = model(noise / spread**2)
    return (fitted, lfm.ExactPosterior(fitted)), x, weight @ weight.T + noise.diag()


def spreads(covariance, gone):
    """The conditional variances of the hidden entries of each row, one after the other."""
    result = []
    for g in gone:
        inverse = torch.linalg.inv(covariance[~g][:, ~g]) if (~g).any() else None
        rest = covariance[g][:, g]
        if inverse is not None:
            rest = rest - covariance[g][:, ~g] @ inverse @ covariance[~g][:, g]
        result.append(rest.diagonal())
    return torch.cat(result)


def test_errors_coverage_and_crps_of_a_known_model_are_those_of_its_conditional_distributions():
    """About 3,000 entries of 1500 rows, 4 errors each of four levels, RMSE and CRPS: a false alarm in 2,600 runs. The
    CRPS of a Gaussian about its own draw is σ/√π. A mean of 200 draws adds at most 1/200 to the squared error."""
    pair, x, covariance = known(1500)
    gone = torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < 0.4
    result = lfm.evaluate.imputation_scores(pair, x, mask=gone, draws=200).variables["x"]
    variance = spreads(covariance, gone)
    assert result.entries == int(gone.sum())
    assert abs(result.rmse - float(variance.mean().sqrt())) < 4 * result.rmse_error + 0.003
    unit = torch.where(gone, torch.nan, x)
    unit = (unit - unit.nanmean(0)).square().nansum(0).div((~gone).sum(0) - 1).sqrt()[gone.nonzero()[:, 1]]
    assert (
        abs(result.standardised - float((variance / unit**2).mean().sqrt()))
        < 4 * result.standardised_error + 0.003
    )
    crps = float((variance.sqrt() / unit).mean()) / math.pi**0.5
    assert abs(result.crps - crps) < 4 * result.crps_error
    assert ((result.coverage - torch.tensor(result.levels)).abs() < 4 * result.coverage_error + 2 / 200).all()
    for level, width in zip(result.levels, result.width, strict=True):
        wanted = (
            2
            * float(Normal(0.0, 1.0).icdf(torch.tensor((1 + level) / 2)))
            * float((variance.sqrt() / unit).mean())
        )
        assert float(width) == pytest.approx(wanted, rel=0.05)
    assert result.calibrated.all() and result.baseline_standardised == pytest.approx(1, abs=0.05)
    assert result.gain > 5 * result.gain_error and result.crps < result.baseline_crps
    # The marginal of a Gaussian column: σ/√π too, over its own standard deviation.
    assert result.baseline_crps == pytest.approx(math.pi**-0.5, rel=0.05)
    assert result.columns.shape == (5,)


def test_intervals_that_are_too_narrow_are_reported():
    pair, x, _ = known(600, spread=3.0)
    result = lfm.evaluate.imputation_scores(pair, x, draws=100)
    assert not result.variables["x"].calibrated.any()
    assert "Intervals too narrow: x." in result.verdict and "Better than mean or mode: x." in repr(result)


def test_errors_over_rows_are_those_of_other_samples():
    """RMSE and coverage of 30 samples of 100 rows: their spread is within 40% of the mean of their errors."""
    result = []
    for seed in range(30):
        pair, _, _ = known(1)
        x = pair[0].sample(100, seed=seed)["x"]
        result.append(
            lfm.evaluate.imputation_scores(pair, x, draws=50, seed=seed, levels=(0.8,)).variables["x"]
        )
    for value, error in (("rmse", "rmse_error"), ("crps", "crps_error")):
        spread = torch.tensor([getattr(each, value) for each in result]).std()
        mean = torch.tensor([getattr(each, error) for each in result]).mean()
        assert abs(float(spread / mean) - 1) < 0.4, value
    spread = torch.stack([each.coverage[0] for each in result]).std()
    assert abs(float(spread / torch.stack([each.coverage_error[0] for each in result]).mean()) - 1) < 0.4


def test_hidden_entries_stay_hidden_and_missing_ones_missing(monkeypatch):
    """Absurd values at hidden entries change the truth and nothing else."""
    pair, x, _ = known(50)
    x[0] = math.nan
    gone = torch.zeros(50, 5, dtype=torch.bool)
    gone[:10, 2] = True
    values = []
    real = hidden_entries._imputed

    def recorded(*arguments):
        values.append(real(*arguments)["value"])
        return real(*arguments)

    monkeypatch.setattr(hidden_entries, "_imputed", recorded)
    for value in (0.0, 1e6):
        changed = x.clone()
        changed[1:10, 2] = value
        result = lfm.evaluate.imputation_scores(pair, changed, mask=gone, draws=20)
        assert result.variables["x"].entries == 9, "a missing entry has no truth"
    assert torch.equal(*values)
    monkeypatch.setattr(hidden_entries, "_ROWS", 7)
    parts = lfm.evaluate.imputation_scores(pair, changed, mask=gone, draws=20)
    assert parts.variables["x"].entries == 9


@pytest.mark.parametrize("name", [n for n in cases.LIKELIHOODS if n != "dirichlet"])
def test_every_likelihood_is_scored(name):
    torch.manual_seed(0)
    model = cases.one_latent(likelihood=name)
    guide = cases.guide_for(model, cases.GUIDES["gaussian-diagonal"])
    result = lfm.evaluate.imputation_scores((model, guide), cases.rows_of(model), share=0.4, draws=20)
    scores = result.variables["x"]
    if name in ("bernoulli", "categorical", "ordered-logistic"):
        assert isinstance(scores, lfm.evaluate.LabelScores) and 0 <= scores.accuracy <= 1
        assert scores.log_score < 0 and 0 < scores.confidence <= 1
    else:
        assert isinstance(scores, lfm.evaluate.NumberScores) and scores.coverage.shape == (4,)
    assert repr(result)


def test_labels_whose_probabilities_are_known():
    """Labels independent of z: accuracy and log score are those of the frequencies, at 4 errors over 3000 rows; three
    figures, twice: a false alarm in 2,600 runs."""
    chances = torch.tensor([0.6, 0.3, 0.1])
    nothing = {"weight": lfm.Fixed(0.0)}
    model = lfm.Model(
        z=lfm.StandardNormal(1),
        y=lfm.Categorical(3, logits=lfm.Linear(**nothing, bias=lfm.Fixed(chances.log())), given="z"),
        b=lfm.Bernoulli(
            2, logits=lfm.Linear(**nothing, bias=lfm.Fixed(torch.tensor([2.0, -1.0]))), given="z"
        ),
    )
    guide = lfm.Guide(model, z=lfm.Gaussian())
    rows = model.sample(3000, seed=0)
    data = {"y": rows["y"], "b": rows["b"]}
    result = lfm.evaluate.imputation_scores((model, guide), data, share=0.5, draws=400).variables
    label, binary = result["y"], result["b"]
    assert abs(label.accuracy - 0.6) < 4 * label.accuracy_error
    assert label.confidence == pytest.approx(0.6, abs=1e-5)
    assert abs(label.log_score - float((chances * chances.log()).sum())) < 4 * label.log_score_error
    assert label.log_score == pytest.approx(label.baseline_log_score, abs=0.02)
    assert label.gain == pytest.approx(0, abs=1e-9) and label.baseline_accuracy == label.accuracy
    p = torch.tensor([2.0, -1.0]).sigmoid()
    assert abs(binary.accuracy - float(torch.maximum(p, 1 - p).mean())) < 4 * binary.accuracy_error
    entropy = float((p * p.log() + (1 - p) * (1 - p).log()).mean())
    assert abs(binary.log_score - entropy) < 4 * binary.log_score_error + 1 / 400
    assert binary.columns.shape == (2,) and abs(float(binary.columns[0]) - float(p[0])) < 0.05


def test_the_crps_is_unbiased_for_few_draws():
    """E of the fair CRPS of 3 draws is that of the distribution: a Gaussian about 0, σ(√2 − 1)/√π; 100,000 draws, 5
    errors."""
    draws = torch.randn(3, 100_000, generator=torch.Generator().manual_seed(0)).sort(0).values
    result = fair_crps(draws, torch.zeros(100_000))
    wanted = (2**0.5 - 1) / math.pi**0.5
    assert abs(float(result.mean()) - wanted) < 5 * float(result.std()) / 100_000**0.5


def test_what_cannot_be_scored_is_refused_in_words():
    pair, x, _ = known(10)
    for change, error, words in [
        ({"share": 0.0}, lfm.DeclarationError, "share must be a number > 0"),
        ({"share": 2}, lfm.DeclarationError, "share must be at most 1"),
        ({"levels": (1.0,)}, lfm.DeclarationError, "levels must be probabilities below 1"),
        ({"draws": 5}, lfm.DeclarationError, "draws must be an int of at least 20"),
        ({"mask": torch.zeros(10, 4)}, lfm.ShapeError, r"mask of x must have shape \(10, 5\)"),
        ({"mask": {"y": torch.zeros(10, 5)}}, lfm.DeclarationError, "mask names observed variables: x"),
        ({"mask": torch.zeros(10, 5)}, lfm.DataError, "no known entry is hidden"),
    ]:
        with pytest.raises(error, match=words):
            lfm.evaluate.imputation_scores(pair, x, **change)


def test_the_picture_has_the_coverage_of_each_variable():
    pair, x, _ = known(60)
    result = lfm.evaluate.imputation_scores(pair, x, draws=50)
    (ax,) = plots.interval_coverage(result).axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["50", "80", "90", "95"]
    shown = ax.containers[0].lines[0].get_ydata()
    scores = result.variables["x"]
    assert shown == pytest.approx(
        [100 * (float(c) - v) for c, v in zip(scores.coverage, scores.levels, strict=True)]
    )
    label = cases.one_latent(likelihood="categorical")
    guide = cases.guide_for(label, cases.GUIDES["gaussian-diagonal"])
    with pytest.raises(lfm.ShapeError, match="no intervals: x"):
        plots.interval_coverage(
            lfm.evaluate.imputation_scores((label, guide), cases.rows_of(label), share=0.5, draws=20)
        )


def test_whole_rows_and_whole_blocks_may_be_hidden(monkeypatch):
    """Scores do not depend on the blocks of rows, and labels of all rows may be hidden."""
    torch.manual_seed(0)
    model = lfm.Model(
        z=lfm.StandardNormal(1),
        x=lfm.Gaussian(3, mean=lfm.Linear()),
        y=lfm.Categorical(3, logits=lfm.MLP(4), given="z"),
    )
    pair = model, lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear(), given="x"))
    drawn = model.sample(40, seed=0)
    data = {"x": drawn["x"], "y": drawn["y"]}
    mask = {"x": torch.zeros(40, 3, dtype=torch.bool), "y": torch.zeros(40, dtype=torch.bool)}
    mask["x"][:20] = mask["y"][:20] = True
    monkeypatch.setattr(hidden_entries, "_ROWS", 10)
    result = lfm.evaluate.imputation_scores(pair, data, mask=mask, draws=50)
    assert result.variables["x"].entries == 60 and result.variables["y"].entries == 20
    every = lfm.evaluate.imputation_scores(pair, data, mask={"y": torch.ones(40, dtype=torch.bool)}, draws=50)
    assert every.variables["y"].entries == 40


def test_lists_are_lists():
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    pair = model, lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear()))
    with pytest.raises(lfm.DeclarationError, match=r"levels must be a list, such as \[0.5\]"):
        lfm.evaluate.imputation_scores(pair, torch.randn(9, 3), levels=0.5)
    with pytest.raises(lfm.DeclarationError, match="mask of x must be a tensor or an array of bool"):
        lfm.evaluate.imputation_scores(pair, torch.randn(9, 3), mask="abc")
    with pytest.raises(lfm.DeclarationError, match="betas must be a list"):
        lfm.evaluate.decompose(pair, torch.randn(9, 3), betas=1.0)
