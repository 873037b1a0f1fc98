"""lfm.compare: truths of linear Gaussian models, isolation, equal terms, resumption, tables."""

import copy
import functools
import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import cases
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.closed_form import recognise
from pyro_lfm.closed_form.linear import gap
from pyro_lfm.comparison.estimates import Estimate, decimals, estimate, ranks
from pyro_lfm.documents.identity import identity

QUICK = {"progress": False, "epochs": 2, "draws": 30}


def fixed_model():
    """A linear Gaussian model without parameters to learn, whose factors are much alike given x."""
    torch.manual_seed(0)
    weight = 0.5 * torch.randn(5, 3) + torch.tensor([[0.7], [-0.7], [0.7], [0.7], [-0.7]])
    mean = lfm.Linear(weight=lfm.Fixed(weight), bias=lfm.Fixed(torch.randn(5)))
    noise = lfm.Isotropic(lfm.Fixed(1.0))
    return lfm.Model(z=lfm.StandardNormal(3), x=lfm.Gaussian(5, mean=mean, covariance=noise)).double()


def small(rows=60):
    torch.manual_seed(0)
    model = lfm.Model(
        z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear(), covariance=lfm.Isotropic())
    )
    return model, torch.randn(rows, 2) @ torch.randn(2, 4) + 0.3 * torch.randn(rows, 4)


def guides():
    encoder = lfm.MLP(8)
    return {
        "mean-field": lfm.Gaussian(network=encoder),
        "full": lfm.Gaussian(covariance=lfm.Full(), network=encoder),
    }


def state_of(*programs):
    return [value.clone() for program in programs for value in program.state_dict().values()]


def same(one, other):
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


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


def test_pairing_takes_out_what_the_rows_have_in_common(truth):
    _, _, result = truth
    alone = result.estimate("bound", "full").error_over_rows
    assert result.difference("bound", "full").error_over_rows < alone / 10


def test_the_notes_and_the_verdict_say_what_was_done(truth):
    _, _, result = truth
    text = repr(result)
    assert "log p(x) is exact" in text and "300 steps of 200 rows" in text and "held out" in text
    assert "clearly better than mean-field by" in result.verdict and "One seed" in result.verdict
    assert list(result.fits) == ["mean-field", "full", "exact"] == list(result.candidates)
    assert result.fits["full"].posterior(torch.zeros(2, 5)).mean.shape == (2, 3)


def test_a_difference_is_recovered_within_its_stated_error():
    """Of 200 made comparisons of known difference the two-error interval holds 95%: 180 to 199 of them, but for one in
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


def test_errors_over_rows_and_seeds_are_told_apart():
    rows, seeds = torch.randn(40, dtype=torch.float64), torch.tensor([0.0, 1.0, 5.0], dtype=torch.float64)
    result = estimate(rows + seeds[:, None])
    assert result.mean == pytest.approx(float(rows.mean()) + 2)
    assert result.error_over_rows == pytest.approx(float(rows.std()) / 40**0.5)
    assert result.error_over_seeds == pytest.approx(float(seeds.std()) / 3**0.5)
    assert result.error == pytest.approx(math.hypot(result.error_over_rows, result.error_over_seeds))
    failed = torch.cat([rows[None], torch.full((1, 40), math.nan, dtype=torch.float64)])
    assert estimate(failed).mean == pytest.approx(float(rows.mean()))
    assert math.isnan(estimate(torch.tensor([math.nan])).mean)


def test_ranks_know_which_differences_are_clear():
    means = {"a": 1.0, "b": 1.1, "c": 3.0, "d": math.nan}
    result = ranks(means, lambda x, y: Estimate(means[x] - means[y], 0.2), higher=True)
    assert {candidate: (r.place, r.best, r.worst) for candidate, r in result.items()} == {
        "a": (3, 2, 3), "b": (2, 2, 3), "c": (1, 1, 1)
    }  # fmt: skip
    assert [str(rank) for rank in result.values()] == ["2–3", "2–3", "1"]
    lower = ranks(means, lambda x, y: Estimate(means[x] - means[y], 0.2), higher=False)
    assert [rank.place for rank in lower.values()] == [1, 2, 3]
    assert decimals([0.21, 1e-9]) == 2 and decimals([7.8]) == 1 and decimals([0.0]) == 2


def test_nothing_that_was_given_is_changed():
    model, x = small()
    full = lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(8)))
    svi = lfm.SVI(full, epochs=2)
    network = torch.nn.Linear(4, 4)
    candidates = {
        "factor": lfm.Gaussian(network=network),
        "guide": full,
        "svi": svi,
        "em": lfm.EM(),
        "vem": lfm.VariationalEM(),
    }
    model.train()
    full.eval()
    before, rng, data = state_of(model, full, network), torch.get_rng_state(), x.clone()
    result = lfm.compare(model, x, candidates, **QUICK)
    assert same(before, state_of(model, full, network)) and torch.equal(data, x)
    assert torch.equal(rng, torch.get_rng_state()) and not list(pyro.get_param_store().keys())
    assert model.training and not full.training and svi.guide is full
    programs = [result.fits[candidate].model for candidate in candidates]
    assert len({id(p) for program in (model, *programs) for p in program.parameters()}) == 6 * len(
        list(model.parameters())
    )
    assert not same(state_of(programs[0]), state_of(model))
    # A guide given twice starts twice from the same weights, as do guide and SVI of it.
    assert torch.equal(result.rows["bound"]["guide"], result.rows["bound"]["svi"])


def test_what_functions_hold_is_not_trained_either():
    model, x = small()
    network = torch.nn.Linear(4, 4)
    held = lfm.Guide(model, z=lfm.Gaussian(network=network))
    before = state_of(model, held, network)
    candidates = {
        "held": lambda model: held,
        "module": lambda model: lfm.Guide(model, z=lfm.Gaussian(network=network)),
        "looking": lambda model: lfm.SVI(lfm.ExactPosterior(model), epochs=2),
    }
    result = lfm.compare(lambda: model, x, candidates, **QUICK)
    assert same(before, state_of(model, held, network))
    looking = result.fits["looking"]
    assert looking.guide.model is looking.model and abs(result.estimate("gap", "looking").mean) < 1e-4


@pytest.mark.parametrize("declared", ["given", "function"])
def test_all_ways_of_a_seed_start_from_the_same_weights(declared):
    model, x = small()
    starts = []

    def candidate(model):
        starts.append(state_of(model))
        guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
        starts[-1] += state_of(guide)
        return guide

    def declare():
        return lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear()))

    given = model if declared == "given" else declare
    result = lfm.compare(given, x, {"one": candidate, "other": candidate}, seeds=2, **QUICK)
    first, again, *seconds = starts[-4:]
    assert same(first, again) and same(*seconds) and not same(first, seconds[0])
    assert torch.equal(result.rows["bound"]["one"], result.rows["bound"]["other"])
    assert not torch.equal(*result.rows["bound"]["one"])
    assert result.difference("bound", "other").mean == 0 and not result.difference("bound", "other").clear
    assert str(result.ranks["bound"]["one"]) == "1–2"
    if declared == "given":
        assert same(first[: len(state_of(model))], state_of(model)), (
            "the first seed starts where the model is"
        )


def test_encoders_of_one_shape_start_alike_and_weights_of_guides_are_drawn_anew_for_further_seeds():
    model, x = small()
    slow = {**QUICK, "learning_rate": 1e-12}
    given = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    candidates = {**guides(), "given": given, "refined": lfm.Refined(given, steps=2)}
    one = lfm.compare(model, x, candidates, **slow)
    hidden = {candidate: next(iter(done.guide.parameters())) for candidate, done in one.fits.items()}
    assert torch.allclose(hidden["mean-field"], hidden["full"], atol=1e-9)
    # One that is as it was declared starts as those do; one that was changed, from where it is.
    assert torch.allclose(hidden["given"], hidden["full"], atol=1e-9)
    with torch.no_grad():
        next(given.parameters()).mul_(2.0)
    moved = lfm.compare(model, x, {"given": given}, **slow).fits["given"].guide
    assert torch.allclose(next(moved.parameters()), next(given.parameters()), atol=1e-9)
    two = lfm.compare(model, x, candidates, seeds=(7, 8), **slow)
    for candidate in candidates:
        assert not torch.allclose(*two.rows["bound"][candidate])
    assert torch.allclose(two.rows["bound"]["given"][1], two.rows["bound"]["mean-field"][1], atol=1e-4)


def test_what_a_declaration_gives_a_value_is_not_drawn_anew():
    weight, frozen = torch.randn(4, 2), torch.nn.Linear(4, 8).requires_grad_(False)
    encoder = torch.nn.Sequential(frozen, torch.nn.ReLU(), torch.nn.Linear(8, 4))
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear(weight=lfm.Learned(weight))))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=encoder))
    before = copy.deepcopy(guide.state_dict())
    other = guide.redrawn(model.redrawn(1), 1)
    assert torch.equal(
        dict(model.redrawn(1).named_parameters())["factors.x.parts.mean.network.weight.value"], weight
    )
    changed = [name for name, value in other.state_dict().items() if not torch.equal(value, before[name])]
    assert [name.split("network.")[-1] for name in changed] == ["2.weight", "2.bias"]
    assert same([*before.values()], state_of(guide))


CASES = {
    **{f"prior {name}": lambda name=name: cases.one_latent(prior=name) for name in cases.PRIORS},
    **{
        f"likelihood {name}": lambda name=name: cases.one_latent(likelihood=name)
        for name in cases.LIKELIHOODS
    },
    **cases.MODELS,
}


@pytest.mark.parametrize("name", CASES)
def test_every_declaration_can_be_declared_once_more(name):
    model = CASES[name]()
    if not isinstance(model, lfm.Model):
        pytest.skip("a program by hand says nothing of how its weights are drawn")
    before, rng = state_of(model), torch.get_rng_state()
    one, again, other = model.redrawn(1), model.redrawn(1), model.redrawn(2)
    assert same(state_of(one), state_of(again)) and same(before, state_of(model))
    assert torch.equal(rng, torch.get_rng_state())
    assert {n: v.shape for n, v in other.state_dict().items()} == {
        n: v.shape for n, v in model.state_dict().items()
    }
    assert [n for n, p in model.named_parameters()] == [n for n, p in other.named_parameters()]
    networks = [n for n, p in model.named_parameters() if n.endswith("0.weight")]
    assert all(not torch.equal(one.state_dict()[n], other.state_dict()[n]) for n in networks)


def test_budgets_must_be_equal_or_said_to_differ():
    model, x = small()
    candidates = {
        "short": guides()["full"],
        "long": lfm.SVI(lfm.Guide(model, z=guides()["full"]), epochs=4),
        "exact": lfm.EM(),
    }
    with pytest.raises(lfm.DeclarationError, match="equal budgets.*short: 2 steps of 60 rows; long: 4 steps"):
        lfm.compare(model, x, candidates, **QUICK)
    result = lfm.compare(model, x, candidates, equal_budgets=False, **QUICK)
    assert "Unequal budgets: short, 2 steps of 60 rows; long, 4 steps of 60 rows" in repr(result)
    same_steps = {
        "epochs": lfm.SVI(candidates["long"].guide, epochs=4, batch_size=20),
        "steps": candidates["long"].guide,
    }
    lfm.compare(model, x, same_steps, steps=12, batch_size=20, progress=False, draws=10)


def test_metrics_of_ones_own_are_paired_and_measured_by_the_same_noise():
    model, x = small()

    def squares(fit, rows):
        return (fit.reconstruct(rows) - rows).square().mean(1)

    metrics = [
        "bound",
        {
            "error": lfm.Metric(squares, better="lower"),
            "noise": lambda fit, rows: torch.rand(len(rows)),
            "epochs": lambda fit, rows: len(fit.history),
        },
    ]
    result = lfm.compare(model, x[:40], guides(), test=x[40:], metrics=metrics, seeds=2, **QUICK)
    assert list(result.metrics) == ["bound", "error", "noise", "epochs"]
    assert result.rows["error"]["full"].shape == (2, 20)
    assert torch.equal(result.rows["noise"]["full"], result.rows["noise"]["mean-field"])
    assert not torch.equal(*result.rows["noise"]["full"])
    assert result.values["epochs"]["full"].tolist() == [2, 2] and "epochs" not in result.rows
    better = min(result.candidates, key=lambda candidate: result.estimate("error", candidate).mean)
    assert result.ranks["error"][better].place == 1
    assert "over mean-field" in result.markdown() and result.markdown().count("± over seeds") == 4
    with pytest.raises(lfm.ShapeError, match=r"metric 'wide' must give a number or a tensor \(60,\)"):
        lfm.compare(model, x, guides(), metrics={"wide": lambda fit, rows: rows}, **QUICK)
    with pytest.raises(lfm.DeclarationError, match="metric 'none' must give a number"):
        lfm.compare(model, x, guides(), metrics={"none": lambda fit, rows: None}, **QUICK)


def test_the_table_as_a_frame_markdown_and_latex(tmp_path, monkeypatch):
    model, x = small()
    candidates = {"mean_field & 50%": guides()["mean-field"], "full": guides()["full"]}
    result = lfm.compare(model, x[:40], candidates, test=x[40:], seeds=2, baseline="full", **QUICK)
    table = result.table
    assert list(table.index) == list(candidates)
    assert table.loc["full", "bound"] == result.estimate("bound", "full").mean
    assert table.loc["full", "bound_difference"] == 0 and not math.isnan(
        table["bound_error_over_seeds"].iloc[0]
    )
    assert (
        set(table["bound_rank"]) == {1, 2} and table.loc["full", "guide_parameters"] == 4 * 8 + 8 + 8 * 5 + 5
    )
    lines = result.markdown().splitlines()
    assert lines[0].startswith(
        "| candidate | bound | ± over seeds | over full | rank | reconstruction | KL | log p(x) |"
    )
    assert len({line.count("|") for line in lines[:4]}) == 1 and sum("**" in line for line in lines[2:4]) == 1
    latex = result.latex()
    assert r"mean\_field \& 50\%" in latex and r"\textbf{" in latex and r"$\hat{k}$" in latex
    assert all(sign in latex for sign in (r"\toprule", r"\midrule", r"\end{tabular}"))
    assert not set("±−–") & set(latex.partition(r"\begin")[2])
    result.save(tmp_path)
    record = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert record["candidates"]["full"]["seeds"][1]["bound"] == float(result.values["bound"]["full"][1])
    assert (tmp_path / "table.md").read_text(encoding="utf-8").strip() == result.markdown()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pyro_lfm\[data\]"):
        _ = result.table
    assert result._repr_markdown_() == result.markdown() and result.latex()


class Interrupted(Exception):
    pass


def interrupting(at_call):
    calls = []

    def callback(record, fit):
        calls.append(record["epoch"])
        if len(calls) == at_call:
            raise Interrupted

    return calls, callback


def test_an_interrupted_comparison_goes_on_with_the_same_result(tmp_path):
    model, x = small()
    candidates = {**guides(), "em": lfm.EM(iterations=3)}
    options = {"test": x[40:], "seeds": 2, "epochs": 3, "draws": 30, "progress": False}
    whole = lfm.compare(model, x[:40], candidates, **options)
    # In the second candidate, after its first epoch.
    calls, callback = interrupting(5)
    with pytest.raises(Interrupted):
        lfm.compare(model, x[:40], candidates, folder=tmp_path, callbacks=[callback], **options)
    assert len(list(tmp_path.glob("*.pt"))) == 1 and len(list(tmp_path.glob("*.unfinished"))) == 1
    seen = []
    went_on = lfm.compare(
        model,
        x[:40],
        candidates,
        folder=tmp_path,
        callbacks=[lambda record, fit: seen.append(record["epoch"])],
        **options,
    )
    # The first candidate is not fitted again, and the second goes on after the epoch that was kept.
    assert seen[:2] == [2, 3] and sorted(seen) == sorted([2, 3] + [1, 2, 3] * 2 + [0, 1, 2, 3] * 2)
    assert not list(tmp_path.glob("*.unfinished"))
    unseen = []
    again = lfm.compare(
        model,
        x[:40],
        candidates,
        folder=tmp_path,
        callbacks=[lambda *record: unseen.append(record)],
        **options,
    )
    assert not unseen
    for result in (went_on, again):
        for metric in ("bound", "kl", "log_likelihood", "gap"):
            for candidate in candidates:
                assert torch.equal(result.rows[metric][candidate], whole.rows[metric][candidate]), (
                    metric,
                    candidate,
                )
        for candidate, done in result.fits.items():
            assert same(
                state_of(done.model, done.guide),
                state_of(whole.fits[candidate].model, whole.fits[candidate].guide),
            )
            assert torch.equal(done.posterior(x[40:]).mean, whole.fits[candidate].posterior(x[40:]).mean)
            assert len(done.history) == len(whole.fits[candidate].history)
            for what in ("converged", "ends", "schema"):
                assert repr(getattr(done, what)) == repr(getattr(whole.fits[candidate], what))
    assert again.table.drop(columns=[c for c in again.table if "seconds" in c]).equals(
        whole.table.drop(columns=[c for c in whole.table if "seconds" in c])
    )


def test_a_row_without_an_entry_has_no_bits_and_counts_in_none_of_the_means():
    model, x = small()
    test = x[40:].clone()
    test[3] = math.nan
    result = lfm.compare(model, x[:40], {"EM": lfm.EM(), **guides()}, test=test, **QUICK)
    own = lfm.compare(
        model, x[:40], {"EM": lfm.EM()}, test=test, metrics={"first": lambda fit, rows: rows[:, 0]}, **QUICK
    )
    for name, each in (("bits_per_dimension", result), ("first", own)):
        rows = each.rows[name]["EM"][0]
        assert rows.isnan().nonzero().tolist() == [[3]]
        assert each.values[name]["EM"].tolist() == [pytest.approx(float(rows.nanmean()))]
        assert each.estimate(name, "EM").mean == pytest.approx(float(rows.nanmean()))
        assert "not finite" not in repr(each)
    assert result.difference("bits_per_dimension", "full", "mean-field").error_over_rows > 0
    assert result.rows["log_likelihood"]["EM"][0, 3] == 0


def test_an_interruption_while_measuring_loses_no_training(tmp_path):
    model, x = small()
    candidates, counts, fails = guides(), [], [False, True]

    def flaky(fit, rows):
        if fails and fails.pop(0):
            raise Interrupted
        return 0.0

    options = {**QUICK, "metrics": ["bound", {"flaky": flaky}], "folder": tmp_path}
    with pytest.raises(Interrupted):
        lfm.compare(model, x, candidates, **options)
    # The function holds a list that has changed: another metric, and no reason to believe the old numbers.
    with pytest.raises(
        lfm.DeclarationError, match=r"'mean-field', seed 0, of another comparison: metrics.flaky"
    ):
        lfm.compare(model, x, candidates, **options)
    del counts


def test_a_folder_of_another_comparison_is_refused_in_words(tmp_path):
    model, x = small()
    candidates = guides()
    lfm.compare(model, x, candidates, folder=tmp_path, **QUICK)
    more = lfm.compare(model, x, {**candidates, "em": lfm.EM()}, folder=tmp_path, seeds=2, **QUICK)
    assert more.values["bound"]["em"].shape == (2,)
    for given, options, word in (
        (x, {"epochs": 3}, "inference.epochs was 2, now it is 3"),
        (x, {"draws": 31}, "draws was 30, now it is 31"),
        (x, {"learning_rate": 1e-2}, "inference.learning_rate"),
        (x, {"metrics": ["bound"]}, "metrics"),
        (x, {"test": x[:5]}, "test_rows was 'none'"),
        (x + 1, {}, "fitted_rows"),
    ):
        with pytest.raises(lfm.DeclarationError, match=word) as error:
            lfm.compare(model, given, candidates, folder=tmp_path, **{**QUICK, **options})
        assert "another folder" in str(error.value)
    changed = copy.deepcopy(model)
    with torch.no_grad():
        next(changed.parameters()).add_(1.0)
    with pytest.raises(lfm.DeclarationError, match=r"model.factors.*manual_seed"):
        lfm.compare(changed, x, candidates, folder=tmp_path, **QUICK)
    next(tmp_path.glob("full*seed-0.pt")).write_bytes(b"no file of ours")
    with pytest.raises(lfm.DataError, match="(?s)cannot be read.*remove it"):
        lfm.compare(model, x, candidates, folder=tmp_path, **QUICK)


def test_what_was_given_is_known_by_its_values():
    def schedule(rate):
        return lambda done: rate * done

    one, other = (identity(of=schedule(rate), model=fixed_model()) for rate in (1.0, 2.0))
    assert [name for name in one if one[name] != other[name]] == ["of.holds.0"]
    assert identity(of=lambda done: done) != identity(of=lambda done: done**2)
    assert identity(of=schedule(1.0), model=fixed_model()) == one


def test_a_way_that_fails_does_not_stop_the_others(tmp_path):
    model, x = small()

    bad = lfm.SVI(lfm.Guide(model, z=guides()["full"]), epochs=2, learning_rate=1e30, batch_size=10)
    candidates = {"good": guides()["full"], "bad": bad, "em": lfm.EM()}
    options = {**QUICK, "batch_size": 10, "folder": tmp_path}
    for _ in range(2):  # the second time from the folder
        result = lfm.compare(model, x, candidates, **options)
        assert list(result.failed) == ["bad"] and "not finite" in result.failed["bad"][0]
        assert math.isnan(result.estimate("bound", "bad").mean) and "bad" not in result.ranks["bound"]
        assert result.ranks["bound"]["em"].place == 1 and "bad" not in result.fits
        assert "| bad | failed |" in result.markdown() and "bad, seed 0, failed: " in result.markdown()
        json.dumps(result.record(), allow_nan=False)


def made(metric="score", **rows):
    """A comparison of made values (seeds, N) of candidates."""
    tables = {candidate: torch.as_tensor(values, dtype=torch.float64) for candidate, values in rows.items()}
    seeds = tuple(range(len(next(iter(tables.values())))))
    return lfm.Comparison(
        candidates=tuple(rows),
        seeds=seeds,
        baseline=next(iter(rows)),
        metrics={metric: lfm.Metric(None)},
        rows={metric: tables},
        values={metric: {candidate: table.mean(1) for candidate, table in tables.items()}},
        fits={},
        histories={candidate: {} for candidate in rows},
        failed={},
        notes=(),
    )


def test_the_verdict_is_that_of_the_pairs_where_rows_or_seeds_are_missing():
    """A beats nobody: where it has values B is better, though B's mean is lower by what B did elsewhere."""
    noise, nan = 0.01 * torch.randn(3, 2, 20, generator=torch.Generator().manual_seed(0)), math.nan
    by_row = made(
        A=torch.cat([10 + noise[0], torch.full((2, 20), nan)], 1),
        B=torch.cat([11 + noise[1], noise[2]], 1),
    )
    by_seed = made(A=[[10.0, 10.1], [nan, nan]], B=[[11.0, 11.2], [0.0, 0.1]])
    for result in (by_row, by_seed):
        assert result.estimate("score", "A").mean > result.estimate("score", "B").mean
        assert result.difference("score", "B").mean > 0.9
        assert [result.ranks["score"][candidate].place for candidate in "AB"] == [2, 1]
        assert "B is best; clearly better than A by 1." in result.verdict
        assert "**" in next(line for line in result.markdown().splitlines() if line.startswith("| B"))
        assert "Not all candidates have score of the same rows and seeds" in repr(result)
    # Each pair has other rows in common, and each candidate is beaten in one of them.
    circle = made(
        A=[[1.0, 1.1, 0, 0.1, nan, nan]], B=[[0, 0.2, nan, nan, 1, 1.3]], C=[[nan, nan, 1, 1.2, 0, 0.1]]
    )
    assert {rank.place for rank in circle.ranks["score"].values()} == {1}
    assert "no candidate is best" in circle.verdict and "contradict" in circle.verdict
    # Nothing in common: the means give the places, and nothing is clear.
    nothing = made(A=[[1.0, 1.1, nan, nan]], B=[[nan, nan, 0, 0.2]])
    assert str(nothing.ranks["score"]["A"]) == "1–2" and "not to be told apart from B" in nothing.verdict


@pytest.mark.parametrize("value", [-math.inf, math.inf, math.nan])
def test_a_bound_that_is_not_finite_counts_as_failed_in_words(value, tmp_path):
    result = made(
        "bound", good=[[1.0, 2.0], [1.5, 2.5]], bad=[[value, 0.0], [value, value]], part=[[0, 1], [value, 1]]
    )
    assert "bad" not in result.ranks["bound"] and result.ranks["bound"]["good"].place == 1
    assert math.isnan(result.difference("bound", "bad").mean) and result.estimate("bound", "part").mean == 0.5
    assert "| bad | not finite |" in result.markdown() and "bad, seed 1: bound is not finite" in repr(result)
    assert "good is best" in result.verdict and result.infinite["part"] == {1: ["bound"]}
    result.save(tmp_path)
    assert result.table.shape[0] == 3 and result.latex()
    labels = lfm.plots.differences(result).axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["part"]
    alone = made("bound", bad=[[value, value]], good=[[1.0, 2.0]])
    assert alone.verdict == "good is the only candidate that was measured by bound."
    with pytest.raises(lfm.DeclarationError, match="the baseline bad has no bound"):
        lfm.plots.differences(alone)


SECONDS = [0.002], [0.0015, 0.0002], [1.3, 0.9, 1.1], [0.01] + [3.0] * 30, [1e-3] + [50.0] * 300


def test_pictures_hold_any_name_and_have_few_ticks_that_differ(tmp_path):
    result = made(**{"$\\foo$": [[1.0, 2.0]], "a$_b": [[1.5, 2.6]], "c": [[1.0, 1.1]]})
    for slowest, seconds in itertools.product((1.3, 40.0, 3000.0), SECONDS):
        history = [{"epoch": k + 1, "seconds": s, "bound": -1.0 / (k + 1)} for k, s in enumerate(seconds)]
        for candidate, slower in zip(result.candidates, (1.0, 1.05, slowest), strict=True):
            result.histories[candidate][0] = [
                {**entry, "seconds": slower * entry["seconds"]} for entry in history
            ]
        figure = lfm.plots.bounds_by_time(result)
        figure.savefig(tmp_path / "climbs.png")
        for ax in figure.axes:
            (low, high), labels = ax.get_xlim(), ax.get_xticklabels()
            words = [label.get_text() for label in labels if low <= label.get_position()[0] <= high]
            assert 1 <= len(words) <= 6 and len(set(words)) == len(words), words
            assert not ax.get_xticklabels(minor=True)
    pictured = lfm.plots.differences(result)
    pictured.savefig(tmp_path / "differences.png")
    assert pictured.axes[0].get_xlabel() == "score over \\$\\foo\\$"


def test_that_no_way_failed_but_none_has_a_number_is_said():
    result = made(A=[[math.nan, math.nan]])
    assert result.verdict == "No candidate has a number for score, by which they are judged."


class Counts(lfm.PyroModel):
    def __init__(self):
        super().__init__()
        self.loading = torch.nn.Parameter(0.1 * torch.randn(3, 6))

    def forward(self, batch):
        with batch.plate():
            r = pyro.sample("r", dist.Gamma(torch.full((3,), 2.0), torch.ones(3)).to_event(1))
            mask = True if batch.mask("x") is None else batch.mask("x")
            distribution = dist.Poisson(r @ self.loading.exp()).mask(mask)
            pyro.sample("x", distribution.to_event(1), obs=batch["x"])


class Encoder(lfm.PyroGuide):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(6, 6)

    def forward(self, batch):
        with batch.plate():
            loc, scale = self.net(torch.log1p(batch["x"])).chunk(2, -1)
            pyro.sample("r", dist.LogNormal(loc, scale.exp()).to_event(1))


def test_programs_by_hand_are_compared_and_several_seeds_ask_for_functions(tmp_path):
    model = Counts()
    x = model.sample(80, seed=0)["x"]
    candidates = {"declared": {"r": lfm.Gaussian(network=lfm.MLP(8))}, "by hand": Encoder()}
    result = lfm.compare(model, x[:60], candidates, test=x[60:], folder=tmp_path, **QUICK)
    again = lfm.compare(model, x[:60], candidates, test=x[60:], folder=tmp_path, **QUICK)
    assert result.rows["gap"]["by hand"].min() >= -1e-4 and "importance weighting with 30 draws" in repr(
        result
    )
    for candidate in candidates:
        one, other = (c.fits[candidate].bound(x[60:], draws=3) for c in (result, again))
        assert torch.equal(one, other)
    with pytest.raises(lfm.DeclarationError, match="function that declares the model"):
        lfm.compare(model, x, candidates, seeds=2, **QUICK)
    with pytest.raises(lfm.DeclarationError, match="guide of candidate 'by hand'.*function of the model"):
        lfm.compare(Counts, x, candidates, seeds=2, **QUICK)
    both = lfm.compare(Counts, x, {"by hand": lambda model: Encoder()}, seeds=2, **QUICK)
    assert not torch.equal(*both.rows["bound"]["by hand"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_missing_entries_rows_of_their_own_and_several_latents(dtype, tmp_path):
    torch.manual_seed(0)
    model = lfm.Model(
        style=lfm.StandardNormal(1),
        z=lfm.Gaussian(2, network=lfm.MLP(4), given="style"),
        x=lfm.Gaussian(4, mean=lfm.MLP(4), given="z"),
        c=lfm.Categorical(3, logits=lfm.MLP(4), given="z"),
    ).to(dtype)
    data = {"x": torch.randn(30, 4, dtype=dtype), "c": torch.randint(3, (30,))}
    data["x"][::3, 1] = math.nan
    rows = {"style": lfm.Gaussian(network=lfm.PerRow()), "z": lfm.Gaussian(network=lfm.PerRow())}
    nets = {
        "style": lfm.Gaussian(network=lfm.MLP(4)),
        "z": lfm.Gaussian(network=lfm.MLP(4), given=("x", "style")),
    }
    test = {name: value[:9] for name, value in data.items()}
    options = {**QUICK, "test": test, "folder": tmp_path}
    candidates = {"encoder": nets, "per row": rows} if dtype is torch.float64 else {"encoder": nets}
    result, again = (lfm.compare(model, data, candidates, **options) for _ in range(2))
    for candidate in result.candidates:
        assert (
            result.rows["bound"][candidate].shape == (1, 9)
            and result.rows["bound"][candidate].isfinite().all()
        )
        assert torch.equal(result.rows["bound"][candidate], again.rows["bound"][candidate])
        assert torch.equal(result.fits[candidate].bound(), again.fits[candidate].bound())
    with pytest.raises(
        lfm.DeclarationError, match="candidate 'one' is one factor, but the model has the latents style, z"
    ):
        lfm.compare(model, data, {"one": nets["z"]}, **QUICK)


def test_parameters_that_rows_share_leave_log_p_out_and_say_so(tmp_path):
    model = cases.bayesian_factors()
    x = cases.rows_of(model, 40)
    candidates = {"vb": lfm.VariationalBayes(iterations=5)}
    result, again = (lfm.compare(model, x, candidates, folder=tmp_path, **QUICK) for _ in range(2))
    assert "log p(x) of its own" in repr(result) and result.values["bound"]["vb"].isfinite().all()
    assert "log_likelihood" not in result.rows and result.ranks["log_likelihood"] == {}
    # Its posterior is more than weights: the numbers are kept, the fit is not.
    assert torch.equal(result.rows["bound"]["vb"], again.rows["bound"]["vb"])
    assert "vb" in result.fits and "vb" not in again.fits


def test_priors_made_of_the_guide_and_guides_made_of_the_prior_are_compared_on_copies():
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.VampPrior(2, components=5), x=lfm.Gaussian(4, mean=lfm.MLP(4)))
    x = torch.randn(30, 4)
    given = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    result = lfm.compare(
        model, x, {"given": given, "factor": lfm.Gaussian(network=lfm.MLP(4))}, seeds=2, **QUICK
    )
    assert not result.failed and result.rows["bound"]["given"].isfinite().all()
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(4)))
    candidates = {
        "message": lfm.GaussianMessage(network=lfm.MLP(4)),
        "posterior": lfm.Gaussian(network=lfm.MLP(4)),
    }
    result = lfm.compare(model, x, candidates, seeds=2, **QUICK)
    assert not result.failed and result.fits["message"].guide.priors.factors["z"] is not model.factors["z"]


def test_one_test_row_has_no_error_over_rows():
    model, x = small()
    result = lfm.compare(model, x, guides(), test=x[:1], **QUICK)
    assert (
        math.isnan(result.difference("bound", "full").error) and not result.difference("bound", "full").clear
    )
    assert repr(result) and result.latex() and str(result.ranks["bound"]["full"]) == "1–2"


def test_what_is_said_of_one_way_alone_bears_its_name():
    model, x = small()
    patient = lfm.SVI(lfm.Guide(model, z=guides()["full"]), epochs=2, patience=5)
    result = lfm.compare(model, x, {"patient": patient, "other": guides()["full"]}, **QUICK)
    assert "patient, at most 2 steps of 60 rows; other, 2 steps" in repr(result)
    many = lfm.compare(model, x, {"em": lfm.EM()}, seeds=(3, 1), metrics=("bound", "gap"), **QUICK)
    assert "uncertain by 71%" in repr(many) and many.seeds == (3, 1) and "only candidate" in many.verdict


CODE = {
    "a method": "class Of:\n    def forward(self):\n        return V\nof = Of()",
    "a method of a base": "class A:\n    def f(self):\n        return V\nclass B(A):\n    pass\nof = B()",
    "a method of a module": "class Of(nn.Module):\n    def forward(self, x):\n        return V * x\nof = Of()",
    "a prior": "class Of(lfm.Prior):\n    def forward(self):\n        return dist.Normal(0.0, V)\nof = Of(2)",
    "a property": "class Of:\n    @property\n    def rate(self):\n        return V\nof = Of()",
    "a static method": "class Of:\n    @staticmethod\n    def f():\n        return V\nof = Of()",
    "a value of a class": "class Of:\n    rate = V\nof = Of()",
    "a method of a dict": "class Of(dict):\n    def f(self):\n        return V\nof = Of(a=1)",
    "nothing in a list": "of = [[], {}][V - 1]",
    "a class": "class Of:\n    rate = V\nof = Of",
    "a helper": "def helper():\n    return V\ndef of():\n    return helper()",
    "another helper": "def a():\n    return V\ndef b():\n    return a() + of()\ndef of():\n    return [b() for _ in [1]]",
    "a global": "rate = V\nof = lambda: rate",
    "a class that is called": "class A:\n    rate = V\nof = lambda: A().rate",
    "a partial": "of = functools.partial(print, end=V)",
    "a partial of": "of = functools.partial(lambda: V)",
    "a cache": "@functools.lru_cache\ndef of():\n    return V",
    "a keyword": "def of(*, rate=V):\n    return rate",
    "a private attribute": "class Of:\n    def __init__(self, rate):\n        self._rate = rate\nof = Of(V)",
    "a private one of a module": "class Of(nn.Module):\n    pass\nof = Of()\nof._rate = V",
    "a slot": "class Of:\n    __slots__ = ('rate', '__dict__')\nof = Of()\nof.rate = V",
    "an entry of a set": "class Of:\n    rate = V\nof = {Of, 3}",
    "a range": "of = range(V)",
    "an array": "of = np.array(['a', str(V)], dtype=object)",
    "closures": "def make(rate):\n    return lambda: rate\nof = [make(1), make(V)]",
}


@pytest.mark.parametrize("name", CODE)
def test_edited_code_and_what_code_reads_is_noticed(name):
    def result(value):
        here = {
            "__name__": "mine",
            "lfm": lfm,
            "dist": dist,
            "nn": torch.nn,
            "functools": functools,
            "np": np,
        }
        exec(CODE[name].replace("V", str(value)), here)
        return identity(of=here["of"])

    assert result(1) == result(1) != result(2)


def test_edited_code_is_refused_by_a_folder(tmp_path):
    model, x = small()
    scores = []
    for value in (1.0, 2.0):
        here: dict = {"__name__": "mine"}
        exec(f"def helper():\n    return {value}\ndef score(fit, data):\n    return helper()", here)
        scores.append({"score": here["score"]})
    candidates = {"em": lfm.EM(iterations=1)}
    for _ in range(2):
        result = lfm.compare(model, x, candidates, metrics=scores[0], folder=tmp_path, progress=False)
        assert result.values["score"]["em"].tolist() == [1.0]
    with pytest.raises(lfm.DeclarationError, match=r"metrics.score.function.reads.helper was"):
        lfm.compare(model, x, candidates, metrics=scores[1], folder=tmp_path, progress=False)


def test_tensors_of_any_layout_are_known_by_their_values():
    one = torch.ones(1).expand(1).as_strided((1,), (0,))
    assert one.stride() == (0,) and identity(of=one) == identity(of=torch.ones(1))
    assert identity(of=torch.eye(2).to_sparse()) == identity(of=torch.eye(2))
    assert identity(of=torch.tensor([1j]).conj()) == identity(of=torch.tensor([complex(0, -1)]))


def test_arguments_are_known_in_another_process():
    """The order of a set's entries, addresses, and what counters count, differ between processes."""
    script = """
import functools
import logging
import torch
import pyro_lfm as lfm
from pyro_lfm.documents.identity import identity
torch.manual_seed(0)
model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(4)))
guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
svi = lfm.SVI(guide, schedule=lambda done: done in {"a", "b", "c", "d"} or {"e", "f", "g"})
class Prior(lfm.Prior):
    known = {"a", "b", "c"}
    def __init__(self):
        super().__init__(2)
        self._keep, self._same = object(), self
    def forward(self):
        return helper(self._keep)
class Slots:
    __slots__ = ("a",)
class Loud(dict):
    def louder(self):
        return 2
log, slots = logging.getLogger("loud"), Slots()
linear = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
fit = lfm.fit(linear, torch.eye(3), lfm.EM(iterations=1), seed=0, progress=False)
slots.a = {Prior, Slots, ("u", "v")}
def helper(value, *, by=functools.partial(max, slots)):
    return [prior, slots, torch.randn(2), print] if value in {"p", "q", "r"} else (log, fit, loud)
prior, loud, values = Prior(), Loud(), {slots: object(), Prior: (1, 2)}
digests = identity(model=model, inference=svi, of={"x", "y", "z"}, code=[helper, prior, values])
print(digests)
"""
    here: dict = {"__name__": "__main__"}
    exec(script, here)
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(here["digests"]) and "inference.schedule" in here["digests"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"candidates": {}}, "at least one"),
        ({"candidates": {3: lfm.EM()}}, "name of a candidate must be a str"),
        ({"candidates": {"a": 3}}, "candidate 'a' must be a factor or"),
        ({"candidates": {"a": {}}}, "candidate 'a' must be"),
        ({"candidates": {"a": lambda model: 3}}, "its function must give a guide or an inference; got 3"),
        ({"seeds": 0}, "seeds must be a positive int"),
        ({"seeds": [1, 1]}, "a list of different seeds"),
        ({"baseline": "none"}, "baseline must be one of a"),
        ({"metrics": ["bounds"]}, "metrics must be names among bound, "),
        ({"metrics": []}, "at least one metric"),
        ({"metrics": {"bound": lambda fit, rows: 0.0}}, "standard one"),
        ({"metrics": {"mine": 3}}, "must be a function"),
        ({"metrics": 3}, "metrics must be names"),
        ({"metrics": {"mine": lambda fit, rows: 1j}}, "metric 'mine' must give real numbers"),
        ({"metrics": {"mine\n": lambda fit, rows: 1.0}}, "name of a metric must be one line"),
        ({"candidates": {"a\nb": lfm.EM()}}, "name of a candidate must be one line"),
        ({"candidates": {"a": torch.nn.Linear(2, 2)}}, "candidate 'a' must be a factor or"),
        ({"candidates": {"a": lambda: lfm.EM()}}, "does not take it"),
        ({"candidates": {"a": Encoder}}, "does not take it"),
        ({"candidates": {"a": lfm.PyroGuide}}, "does not take it"),
        (
            {"candidates": {"a": lambda batch: batch.plate()}},
            "candidate 'a'.*function of a batch is given as lfm.PyroGuide",
        ),
        ({"baseline": ["a"]}, "baseline must be one of a"),
        ({"seeds": [2**70]}, "seeds must be below"),
        ({"folder": 3}, "folder must be a path; got 3"),
        ({"folder": __file__}, "folder must name a folder.*test_compare.py is a file"),
        ({"folder": Path(__file__) / "under"}, "test_compare.py is a file"),
        ({"draws": 1}, "draws must be an int of at least 2"),
        ({"epochs": 2, "steps": 3}, "epochs or steps"),
        ({"model": 3}, "PyroModel takes a module or function"),
    ],
)
def test_mistakes_are_told_in_words(arguments, words):
    model, x = small()
    options = {
        "model": model,
        "data": x,
        "candidates": {"a": guides()["full"]},
        "progress": False,
        **arguments,
    }
    with pytest.raises(lfm.DeclarationError, match=words):
        lfm.compare(**options)
    with pytest.raises(lfm.DeclarationError, match="better must be"):
        lfm.Metric(len, better="larger")
    for picture in (lfm.plots.differences, lfm.plots.bounds_by_time):
        with pytest.raises(lfm.DeclarationError, match="of a Comparison, as lfm.compare gives it; got int"):
            picture(3)


def test_what_is_asked_of_a_comparison_by_another_name_is_refused(truth):
    with pytest.raises(lfm.DeclarationError, match="metrics are bound"):
        truth[2].estimate("accuracy", "full")
