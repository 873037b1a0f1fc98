"""Estimates of a comparison against truths of linear Gaussian models: paired differences, errors, ranks."""

import math

import pytest
import torch
from comparison_cases import QUICK, fixed_model, guides, small

import pyro_lfm as lfm
from pyro_lfm.closed_form import recognise
from pyro_lfm.closed_form.linear.factorised_linear import gap
from pyro_lfm.comparison.estimates import Estimate, decimals, estimate, ranks


@pytest.fixture(scope="module")
def truth():
    model = fixed_model()
    x = model.sample(300, seed=1)["x"]

    def by_gradients(covariance):
        objective = lfm.ELBO(gradient="sticking-the-landing")
        budget = {"steps": 300, "batch_size": 200, "learning_rate": 0.06, "schedule": lambda done: 1 - done}
        q = lfm.Gaussian(mean=lfm.Linear(), covariance=covariance)
        return lambda model: lfm.SVI(lfm.Guide(model, z=q), objective=objective, engine="eager", **budget)

    candidates = {
        "mean-field": by_gradients(lfm.Diagonal()),
        "full": by_gradients(lfm.Full()),
        "exact": lfm.EM(iterations=0, start="model"),
    }
    result = lfm.compare(model, x[:200], candidates, test=x[200:], progress=False, draws=200)
    return model, x[200:], result


def test_a_full_covariance_reaches_log_p_and_mean_field_lies_below_it_by_the_closed_form_gap(truth):
    """Six errors, one number: a false alarm in 10⁸ runs. Adam stops within 0.01 nats of the optimum."""
    model, test, result = truth
    known = gap(recognise(model).read(), test)
    log_p = recognise(model).log_likelihood(test)
    assert known.min() > 0.3
    assert torch.allclose(result.rows["log_likelihood"]["full"][0], log_p)
    assert (result.rows["bound"]["exact"][0] - log_p).abs().max() < 1e-9
    assert (result.rows["gap"]["full"][0].abs() < 0.01).all()
    difference = result.difference("bound", "full")
    assert abs(difference.mean - float(known.mean())) < 0.01 + 6 * difference.error
    assert 0 < difference.error < 0.02
    assert difference.clear and result.ranks["bound"]["mean-field"].best == 3
    assert math.isnan(difference.error_over_seeds)


def test_pairing_removes_the_noise_that_rows_have_in_common(truth):
    _, _, result = truth
    alone = result.estimate("bound", "full").error_over_rows
    assert result.difference("bound", "full").error_over_rows < alone / 10


def test_notes_and_verdict_name_budget_rows_and_the_best(truth):
    _, _, result = truth
    text = repr(result)
    assert "log p(x) is exact" in text and "300 steps of 200 rows" in text and "held out" in text
    assert "clearly better than mean-field by" in result.verdict and "One seed" in result.verdict
    assert list(result.fits) == ["mean-field", "full", "exact"] == list(result.candidates)
    assert result.fits["full"].posterior(torch.zeros(2, 5)).mean.shape == (2, 3)


def test_a_difference_is_recovered_within_its_stated_error():
    """The two-error interval contains the known difference in 180 to 199 of 200 simulated comparisons, but for one in
    3,000 runs."""
    generator = torch.Generator().manual_seed(0)
    held = 0
    for _ in range(200):
        rows = torch.randn(1, 50, generator=generator)
        one = rows + 0.1 * torch.randn(1, 50, generator=generator)
        other = rows + 0.2 + 0.1 * torch.randn(1, 50, generator=generator)
        result = estimate(other - one)
        held += abs(result.mean - 0.2) < 2 * result.error
    assert 180 <= held <= 199


def test_errors_over_rows_and_over_seeds_are_separate():
    rows, seeds = torch.randn(40, dtype=torch.float64), torch.tensor([0.0, 1.0, 5.0], dtype=torch.float64)
    result = estimate(rows + seeds[:, None])
    assert result.mean == pytest.approx(float(rows.mean()) + 2)
    assert result.error_over_rows == pytest.approx(float(rows.std()) / 40**0.5)
    assert result.error_over_seeds == pytest.approx(float(seeds.std()) / 3**0.5)
    assert result.error == pytest.approx(math.hypot(result.error_over_rows, result.error_over_seeds))
    failed = torch.cat([rows[None], torch.full((1, 40), math.nan, dtype=torch.float64)])
    assert estimate(failed).mean == pytest.approx(float(rows.mean()))
    assert math.isnan(estimate(torch.tensor([math.nan])).mean)


def test_ranks_take_clear_differences_into_account():
    means = {"a": 1.0, "b": 1.1, "c": 3.0, "d": math.nan}
    result = ranks(means, lambda x, y: Estimate(means[x] - means[y], 0.2), higher=True)
    assert {candidate: (r.place, r.best, r.worst) for candidate, r in result.items()} == {
        "a": (3, 2, 3), "b": (2, 2, 3), "c": (1, 1, 1)
    }  # fmt: skip
    assert [str(rank) for rank in result.values()] == ["2–3", "2–3", "1"]
    lower = ranks(means, lambda x, y: Estimate(means[x] - means[y], 0.2), higher=False)
    assert [rank.place for rank in lower.values()] == [1, 2, 3]
    assert decimals([0.21, 1e-9]) == 2 and decimals([7.8]) == 1 and decimals([0.0]) == 2


def test_one_test_row_has_no_error_over_rows():
    model, x = small()
    result = lfm.compare(model, x, guides(), test=x[:1], **QUICK)
    assert (
        math.isnan(result.difference("bound", "full").error) and not result.difference("bound", "full").clear
    )
    assert repr(result) and result.latex() and str(result.ranks["bound"]["full"]) == "1–2"


def test_unknown_names_are_refused(truth):
    with pytest.raises(lfm.DeclarationError, match="metrics are bound"):
        truth[2].estimate("accuracy", "full")
