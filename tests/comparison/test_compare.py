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
from pyro_lfm.documents.identity import identity_of

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

    ways = {
        "mean-field": by_gradients(lfm.Diagonal()),
        "full": by_gradients(lfm.Full()),
        "exact": lfm.EM(iterations=0, start="model"),
    }
    found = lfm.compare(model, x[:200], ways, test=x[200:], progress=False, draws=200)
    return model, x[200:], found


def test_a_full_covariance_reaches_log_p_and_mean_field_lies_below_it_by_the_closed_form_gap(truth):
    """Six errors, one number: a false alarm in 10⁸ runs. Adam stops within 0.01 nats of the optimum."""
    model, test, found = truth
    known = gap(recognise(model).read(), test)
    log_p = recognise(model).log_likelihood(test)
    assert known.min() > 0.3
    assert torch.allclose(found.rows["log_likelihood"]["full"][0], log_p)
    assert (found.rows["bound"]["exact"][0] - log_p).abs().max() < 1e-9
    assert (found.rows["gap"]["full"][0].abs() < 0.01).all()
    difference = found.difference("bound", "full")
    assert abs(difference.mean - float(known.mean())) < 0.01 + 6 * difference.error
    assert 0 < difference.error < 0.02
    assert difference.clear and found.ranks["bound"]["mean-field"].best == 3
    assert math.isnan(difference.error_over_seeds)


def test_pairing_takes_out_what_the_rows_have_in_common(truth):
    _, _, found = truth
    alone = found.estimate("bound", "full").error_over_rows
    assert found.difference("bound", "full").error_over_rows < alone / 10


def test_the_notes_and_the_verdict_say_what_was_done(truth):
    _, _, found = truth
    text = repr(found)
    assert "log p(x) is exact" in text and "300 steps of 200 rows" in text and "held out" in text
    assert "clearly better than mean-field by" in found.verdict and "One seed" in found.verdict
    assert list(found.fits) == ["mean-field", "full", "exact"] == list(found.ways)
    assert found.fits["full"].posterior(torch.zeros(2, 5)).mean.shape == (2, 3)


def test_a_difference_is_recovered_within_its_stated_error():
    """Of 200 made comparisons of known difference the two-error interval holds 95%: 180 to 199 of them, but for one in
    3,000 runs."""
    generator = torch.Generator().manual_seed(0)
    held = 0
    for _ in range(200):
        rows = torch.randn(1, 50, generator=generator)
        one = rows + 0.1 * torch.randn(1, 50, generator=generator)
        other = rows + 0.2 + 0.1 * torch.randn(1, 50, generator=generator)
        found = estimate(other - one)
        held += abs(found.mean - 0.2) < 2 * found.error
    assert 180 <= held <= 199


def test_errors_over_rows_and_seeds_are_told_apart():
    rows, seeds = torch.randn(40, dtype=torch.float64), torch.tensor([0.0, 1.0, 5.0], dtype=torch.float64)
    found = estimate(rows + seeds[:, None])
    assert found.mean == pytest.approx(float(rows.mean()) + 2)
    assert found.error_over_rows == pytest.approx(float(rows.std()) / 40**0.5)
    assert found.error_over_seeds == pytest.approx(float(seeds.std()) / 3**0.5)
    assert found.error == pytest.approx(math.hypot(found.error_over_rows, found.error_over_seeds))
    failed = torch.cat([rows[None], torch.full((1, 40), math.nan, dtype=torch.float64)])
    assert estimate(failed).mean == pytest.approx(float(rows.mean()))
    assert math.isnan(estimate(torch.tensor([math.nan])).mean)


def test_ranks_know_which_differences_are_clear():
    means = {"a": 1.0, "b": 1.1, "c": 3.0, "d": math.nan}
    found = ranks(means, lambda x, y: Estimate(means[x] - means[y], 0.2), higher=True)
    assert {way: (r.place, r.best, r.worst) for way, r in found.items()} == {
        "a": (3, 2, 3), "b": (2, 2, 3), "c": (1, 1, 1)
    }  # fmt: skip
    assert [str(rank) for rank in found.values()] == ["2–3", "2–3", "1"]
    lower = ranks(means, lambda x, y: Estimate(means[x] - means[y], 0.2), higher=False)
    assert [rank.place for rank in lower.values()] == [1, 2, 3]
    assert decimals([0.21, 1e-9]) == 2 and decimals([7.8]) == 1 and decimals([0.0]) == 2


def test_nothing_that_was_given_is_changed():
    model, x = small()
    full = lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(8)))
    svi = lfm.SVI(full, epochs=2)
    network = torch.nn.Linear(4, 4)
    ways = {
        "factor": lfm.Gaussian(network=network),
        "guide": full,
        "svi": svi,
        "em": lfm.EM(),
        "vem": lfm.VariationalEM(),
    }
    model.train()
    full.eval()
    before, rng, data = state_of(model, full, network), torch.get_rng_state(), x.clone()
    found = lfm.compare(model, x, ways, **QUICK)
    assert same(before, state_of(model, full, network)) and torch.equal(data, x)
    assert torch.equal(rng, torch.get_rng_state()) and not list(pyro.get_param_store().keys())
    assert model.training and not full.training and svi.guide is full
    programs = [found.fits[way].model for way in ways]
    assert len({id(p) for program in (model, *programs) for p in program.parameters()}) == 6 * len(
        list(model.parameters())
    )
    assert not same(state_of(programs[0]), state_of(model))
    # A guide given twice starts twice from the same weights, as do guide and SVI of it.
    assert torch.equal(found.rows["bound"]["guide"], found.rows["bound"]["svi"])


def test_what_functions_hold_is_not_trained_either():
    model, x = small()
    network = torch.nn.Linear(4, 4)
    held = lfm.Guide(model, z=lfm.Gaussian(network=network))
    before = state_of(model, held, network)
    ways = {
        "held": lambda model: held,
        "module": lambda model: lfm.Guide(model, z=lfm.Gaussian(network=network)),
        "looking": lambda model: lfm.SVI(lfm.ExactPosterior(model), epochs=2),
    }
    found = lfm.compare(lambda: model, x, ways, **QUICK)
    assert same(before, state_of(model, held, network))
    looking = found.fits["looking"]
    assert looking.guide.model is looking.model and abs(found.estimate("gap", "looking").mean) < 1e-4


@pytest.mark.parametrize("declared", ["given", "function"])
def test_all_ways_of_a_seed_start_from_the_same_weights(declared):
    model, x = small()
    starts = []

    def way(model):
        starts.append(state_of(model))
        guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
        starts[-1] += state_of(guide)
        return guide

    def declare():
        return lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear()))

    given = model if declared == "given" else declare
    found = lfm.compare(given, x, {"one": way, "other": way}, seeds=2, **QUICK)
    first, again, *seconds = starts[-4:]
    assert same(first, again) and same(*seconds) and not same(first, seconds[0])
    assert torch.equal(found.rows["bound"]["one"], found.rows["bound"]["other"])
    assert not torch.equal(*found.rows["bound"]["one"])
    assert found.difference("bound", "other").mean == 0 and not found.difference("bound", "other").clear
    assert str(found.ranks["bound"]["one"]) == "1–2"
    if declared == "given":
        assert same(first[: len(state_of(model))], state_of(model)), (
            "the first seed starts where the model is"
        )


def test_encoders_of_one_shape_start_alike_and_weights_of_guides_are_drawn_anew_for_further_seeds():
    model, x = small()
    slow = {**QUICK, "learning_rate": 1e-12}
    given = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    ways = {**guides(), "given": given, "refined": lfm.Refined(given, steps=2)}
    one = lfm.compare(model, x, ways, **slow)
    hidden = {way: next(iter(done.guide.parameters())) for way, done in one.fits.items()}
    assert torch.allclose(hidden["mean-field"], hidden["full"], atol=1e-9)
    # One that is as it was declared starts as those do; one that was changed, from where it is.
    assert torch.allclose(hidden["given"], hidden["full"], atol=1e-9)
    with torch.no_grad():
        next(given.parameters()).mul_(2.0)
    moved = lfm.compare(model, x, {"given": given}, **slow).fits["given"].guide
    assert torch.allclose(next(moved.parameters()), next(given.parameters()), atol=1e-9)
    two = lfm.compare(model, x, ways, seeds=(7, 8), **slow)
    for way in ways:
        assert not torch.allclose(*two.rows["bound"][way])
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
    ways = {
        "short": guides()["full"],
        "long": lfm.SVI(lfm.Guide(model, z=guides()["full"]), epochs=4),
        "exact": lfm.EM(),
    }
    with pytest.raises(lfm.DeclarationError, match="equal budgets.*short: 2 steps of 60 rows; long: 4 steps"):
        lfm.compare(model, x, ways, **QUICK)
    found = lfm.compare(model, x, ways, equal_budgets=False, **QUICK)
    assert "Unequal budgets: short, 2 steps of 60 rows; long, 4 steps of 60 rows" in repr(found)
    same_steps = {"epochs": lfm.SVI(ways["long"].guide, epochs=4, batch_size=20), "steps": ways["long"].guide}
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
    found = lfm.compare(model, x[:40], guides(), test=x[40:], metrics=metrics, seeds=2, **QUICK)
    assert list(found.metrics) == ["bound", "error", "noise", "epochs"]
    assert found.rows["error"]["full"].shape == (2, 20)
    assert torch.equal(found.rows["noise"]["full"], found.rows["noise"]["mean-field"])
    assert not torch.equal(*found.rows["noise"]["full"])
    assert found.values["epochs"]["full"].tolist() == [2, 2] and "epochs" not in found.rows
    better = min(found.ways, key=lambda way: found.estimate("error", way).mean)
    assert found.ranks["error"][better].place == 1
    assert "over mean-field" in found.markdown() and found.markdown().count("± over seeds") == 4
    with pytest.raises(lfm.ShapeError, match=r"metric 'wide' must give a number or a tensor \(60,\)"):
        lfm.compare(model, x, guides(), metrics={"wide": lambda fit, rows: rows}, **QUICK)
    with pytest.raises(lfm.DeclarationError, match="metric 'none' must give a number"):
        lfm.compare(model, x, guides(), metrics={"none": lambda fit, rows: None}, **QUICK)


def test_the_table_as_a_frame_markdown_and_latex(tmp_path, monkeypatch):
    model, x = small()
    ways = {"mean_field & 50%": guides()["mean-field"], "full": guides()["full"]}
    found = lfm.compare(model, x[:40], ways, test=x[40:], seeds=2, baseline="full", **QUICK)
    table = found.table
    assert list(table.index) == list(ways)
    assert table.loc["full", "bound"] == found.estimate("bound", "full").mean
    assert table.loc["full", "bound_difference"] == 0 and not math.isnan(
        table["bound_error_over_seeds"].iloc[0]
    )
    assert (
        set(table["bound_rank"]) == {1, 2} and table.loc["full", "guide_parameters"] == 4 * 8 + 8 + 8 * 5 + 5
    )
    lines = found.markdown().splitlines()
    assert lines[0].startswith(
        "| way | bound | ± over seeds | over full | rank | reconstruction | KL | log p(x) |"
    )
    assert len({line.count("|") for line in lines[:4]}) == 1 and sum("**" in line for line in lines[2:4]) == 1
    latex = found.latex()
    assert r"mean\_field \& 50\%" in latex and r"\textbf{" in latex and r"$\hat{k}$" in latex
    assert all(sign in latex for sign in (r"\toprule", r"\midrule", r"\end{tabular}"))
    assert not set("±−–") & set(latex.partition(r"\begin")[2])
    found.save(tmp_path)
    record = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert record["ways"]["full"]["seeds"][1]["bound"] == float(found.values["bound"]["full"][1])
    assert (tmp_path / "table.md").read_text(encoding="utf-8").strip() == found.markdown()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pyro_lfm\[data\]"):
        _ = found.table
    assert found._repr_markdown_() == found.markdown() and found.latex()


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
    ways = {**guides(), "em": lfm.EM(iterations=3)}
    options = {"test": x[40:], "seeds": 2, "epochs": 3, "draws": 30, "progress": False}
    whole = lfm.compare(model, x[:40], ways, **options)
    # In the second way, after its first epoch.
    calls, callback = interrupting(5)
    with pytest.raises(Interrupted):
        lfm.compare(model, x[:40], ways, folder=tmp_path, callbacks=[callback], **options)
    assert len(list(tmp_path.glob("*.pt"))) == 1 and len(list(tmp_path.glob("*.unfinished"))) == 1
    seen = []
    went_on = lfm.compare(
        model,
        x[:40],
        ways,
        folder=tmp_path,
        callbacks=[lambda record, fit: seen.append(record["epoch"])],
        **options,
    )
    # The first way is not fitted again, and the second goes on after the epoch that was kept.
    assert seen[:2] == [2, 3] and sorted(seen) == sorted([2, 3] + [1, 2, 3] * 2 + [0, 1, 2, 3] * 2)
    assert not list(tmp_path.glob("*.unfinished"))
    unseen = []
    again = lfm.compare(
        model, x[:40], ways, folder=tmp_path, callbacks=[lambda *record: unseen.append(record)], **options
    )
    assert not unseen
    for found in (went_on, again):
        for metric in ("bound", "kl", "log_likelihood", "gap"):
            for way in ways:
                assert torch.equal(found.rows[metric][way], whole.rows[metric][way]), (metric, way)
        for way, done in found.fits.items():
            assert same(
                state_of(done.model, done.guide), state_of(whole.fits[way].model, whole.fits[way].guide)
            )
            assert torch.equal(done.posterior(x[40:]).mean, whole.fits[way].posterior(x[40:]).mean)
            assert len(done.history) == len(whole.fits[way].history)
            for what in ("converged", "ends", "schema"):
                assert repr(getattr(done, what)) == repr(getattr(whole.fits[way], what))
    assert again.table.drop(columns=[c for c in again.table if "seconds" in c]).equals(
        whole.table.drop(columns=[c for c in whole.table if "seconds" in c])
    )


def test_a_row_without_an_entry_has_no_bits_and_counts_in_none_of_the_means():
    model, x = small()
    test = x[40:].clone()
    test[3] = math.nan
    found = lfm.compare(model, x[:40], {"EM": lfm.EM(), **guides()}, test=test, **QUICK)
    own = lfm.compare(
        model, x[:40], {"EM": lfm.EM()}, test=test, metrics={"first": lambda fit, rows: rows[:, 0]}, **QUICK
    )
    for name, each in (("bits_per_dimension", found), ("first", own)):
        rows = each.rows[name]["EM"][0]
        assert rows.isnan().nonzero().tolist() == [[3]]
        assert each.values[name]["EM"].tolist() == [pytest.approx(float(rows.nanmean()))]
        assert each.estimate(name, "EM").mean == pytest.approx(float(rows.nanmean()))
        assert "not finite" not in repr(each)
    assert found.difference("bits_per_dimension", "full", "mean-field").error_over_rows > 0
    assert found.rows["log_likelihood"]["EM"][0, 3] == 0


def test_an_interruption_while_measuring_loses_no_training(tmp_path):
    model, x = small()
    ways, counts, fails = guides(), [], [False, True]

    def flaky(fit, rows):
        if fails and fails.pop(0):
            raise Interrupted
        return 0.0

    options = {**QUICK, "metrics": ["bound", {"flaky": flaky}], "folder": tmp_path}
    with pytest.raises(Interrupted):
        lfm.compare(model, x, ways, **options)
    # The function holds a list that has changed: another metric, and no reason to believe the old numbers.
    with pytest.raises(
        lfm.DeclarationError, match=r"'mean-field', seed 0, of another comparison: metrics.flaky"
    ):
        lfm.compare(model, x, ways, **options)
    del counts


def test_a_folder_of_another_comparison_is_refused_in_words(tmp_path):
    model, x = small()
    ways = guides()
    lfm.compare(model, x, ways, folder=tmp_path, **QUICK)
    more = lfm.compare(model, x, {**ways, "em": lfm.EM()}, folder=tmp_path, seeds=2, **QUICK)
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
            lfm.compare(model, given, ways, folder=tmp_path, **{**QUICK, **options})
        assert "another folder" in str(error.value)
    changed = copy.deepcopy(model)
    with torch.no_grad():
        next(changed.parameters()).add_(1.0)
    with pytest.raises(lfm.DeclarationError, match=r"model.factors.*manual_seed"):
        lfm.compare(changed, x, ways, folder=tmp_path, **QUICK)
    next(tmp_path.glob("full*seed-0.pt")).write_bytes(b"no file of ours")
    with pytest.raises(lfm.DataError, match="(?s)cannot be read.*remove it"):
        lfm.compare(model, x, ways, folder=tmp_path, **QUICK)


def test_what_was_given_is_known_by_its_values():
    def schedule(rate):
        return lambda done: rate * done

    one, other = (identity_of(of=schedule(rate), model=fixed_model()) for rate in (1.0, 2.0))
    assert [name for name in one if one[name] != other[name]] == ["of.holds.0"]
    assert identity_of(of=lambda done: done) != identity_of(of=lambda done: done**2)
    assert identity_of(of=schedule(1.0), model=fixed_model()) == one


def test_a_way_that_fails_does_not_stop_the_others(tmp_path):
    model, x = small()

    bad = lfm.SVI(lfm.Guide(model, z=guides()["full"]), epochs=2, learning_rate=1e30, batch_size=10)
    ways = {"good": guides()["full"], "bad": bad, "em": lfm.EM()}
    options = {**QUICK, "batch_size": 10, "folder": tmp_path}
    for _ in range(2):  # the second time from the folder
        found = lfm.compare(model, x, ways, **options)
        assert list(found.failed) == ["bad"] and "not finite" in found.failed["bad"][0]
        assert math.isnan(found.estimate("bound", "bad").mean) and "bad" not in found.ranks["bound"]
        assert found.ranks["bound"]["em"].place == 1 and "bad" not in found.fits
        assert "| bad | failed |" in found.markdown() and "bad, seed 0, failed: " in found.markdown()
        json.dumps(found.record(), allow_nan=False)


def made(metric="score", **rows):
    """A comparison of made values (seeds, N) of ways."""
    tables = {way: torch.as_tensor(values, dtype=torch.float64) for way, values in rows.items()}
    seeds = tuple(range(len(next(iter(tables.values())))))
    return lfm.Comparison(
        ways=tuple(rows),
        seeds=seeds,
        baseline=next(iter(rows)),
        metrics={metric: lfm.Metric(None)},
        rows={metric: tables},
        values={metric: {way: table.mean(1) for way, table in tables.items()}},
        fits={},
        histories={way: {} for way in rows},
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
    for found in (by_row, by_seed):
        assert found.estimate("score", "A").mean > found.estimate("score", "B").mean
        assert found.difference("score", "B").mean > 0.9
        assert [found.ranks["score"][way].place for way in "AB"] == [2, 1]
        assert "B is best; clearly better than A by 1." in found.verdict
        assert "**" in next(line for line in found.markdown().splitlines() if line.startswith("| B"))
        assert "Not all ways have score of the same rows and seeds" in repr(found)
    # Each pair has other rows in common, and each way is beaten in one of them.
    circle = made(
        A=[[1.0, 1.1, 0, 0.1, nan, nan]], B=[[0, 0.2, nan, nan, 1, 1.3]], C=[[nan, nan, 1, 1.2, 0, 0.1]]
    )
    assert {rank.place for rank in circle.ranks["score"].values()} == {1}
    assert "no way is best" in circle.verdict and "contradict" in circle.verdict
    # Nothing in common: the means give the places, and nothing is clear.
    nothing = made(A=[[1.0, 1.1, nan, nan]], B=[[nan, nan, 0, 0.2]])
    assert str(nothing.ranks["score"]["A"]) == "1–2" and "not to be told apart from B" in nothing.verdict


@pytest.mark.parametrize("value", [-math.inf, math.inf, math.nan])
def test_a_bound_that_is_not_finite_counts_as_failed_in_words(value, tmp_path):
    found = made(
        "bound", good=[[1.0, 2.0], [1.5, 2.5]], bad=[[value, 0.0], [value, value]], part=[[0, 1], [value, 1]]
    )
    assert "bad" not in found.ranks["bound"] and found.ranks["bound"]["good"].place == 1
    assert math.isnan(found.difference("bound", "bad").mean) and found.estimate("bound", "part").mean == 0.5
    assert "| bad | not finite |" in found.markdown() and "bad, seed 1: bound is not finite" in repr(found)
    assert "good is best" in found.verdict and found.infinite["part"] == {1: ["bound"]}
    found.save(tmp_path)
    assert found.table.shape[0] == 3 and found.latex()
    labels = lfm.plots.differences(found).axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["part"]
    alone = made("bound", bad=[[value, value]], good=[[1.0, 2.0]])
    assert alone.verdict == "good is the only way that was measured by bound."
    with pytest.raises(lfm.DeclarationError, match="the baseline bad has no bound"):
        lfm.plots.differences(alone)


SECONDS = [0.002], [0.0015, 0.0002], [1.3, 0.9, 1.1], [0.01] + [3.0] * 30, [1e-3] + [50.0] * 300


def test_pictures_hold_any_name_and_have_few_ticks_that_differ(tmp_path):
    found = made(**{"$\\foo$": [[1.0, 2.0]], "a$_b": [[1.5, 2.6]], "c": [[1.0, 1.1]]})
    for slowest, seconds in itertools.product((1.3, 40.0, 3000.0), SECONDS):
        history = [{"epoch": k + 1, "seconds": s, "bound": -1.0 / (k + 1)} for k, s in enumerate(seconds)]
        for way, slower in zip(found.ways, (1.0, 1.05, slowest), strict=True):
            found.histories[way][0] = [{**entry, "seconds": slower * entry["seconds"]} for entry in history]
        figure = lfm.plots.climbs(found)
        figure.savefig(tmp_path / "climbs.png")
        for ax in figure.axes:
            (low, high), labels = ax.get_xlim(), ax.get_xticklabels()
            words = [label.get_text() for label in labels if low <= label.get_position()[0] <= high]
            assert 1 <= len(words) <= 6 and len(set(words)) == len(words), words
            assert not ax.get_xticklabels(minor=True)
    pictured = lfm.plots.differences(found)
    pictured.savefig(tmp_path / "differences.png")
    assert pictured.axes[0].get_xlabel() == "score over \\$\\foo\\$"


def test_that_no_way_failed_but_none_has_a_number_is_said():
    found = made(A=[[math.nan, math.nan]])
    assert found.verdict == "No way has a number for score, by which they are judged."


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
    ways = {"declared": {"r": lfm.Gaussian(network=lfm.MLP(8))}, "by hand": Encoder()}
    found = lfm.compare(model, x[:60], ways, test=x[60:], folder=tmp_path, **QUICK)
    again = lfm.compare(model, x[:60], ways, test=x[60:], folder=tmp_path, **QUICK)
    assert found.rows["gap"]["by hand"].min() >= -1e-4 and "importance weighting with 30 draws" in repr(found)
    for way in ways:
        one, other = (c.fits[way].bound(x[60:], draws=3) for c in (found, again))
        assert torch.equal(one, other)
    with pytest.raises(lfm.DeclarationError, match="function that declares the model"):
        lfm.compare(model, x, ways, seeds=2, **QUICK)
    with pytest.raises(lfm.DeclarationError, match="guide of way 'by hand'.*function of the model"):
        lfm.compare(Counts, x, ways, seeds=2, **QUICK)
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
    ways = {"encoder": nets, "per row": rows} if dtype is torch.float64 else {"encoder": nets}
    found, again = (lfm.compare(model, data, ways, **options) for _ in range(2))
    for way in found.ways:
        assert found.rows["bound"][way].shape == (1, 9) and found.rows["bound"][way].isfinite().all()
        assert torch.equal(found.rows["bound"][way], again.rows["bound"][way])
        assert torch.equal(found.fits[way].bound(), again.fits[way].bound())
    with pytest.raises(
        lfm.DeclarationError, match="way 'one' is one factor, but the model has the latents style, z"
    ):
        lfm.compare(model, data, {"one": nets["z"]}, **QUICK)


def test_parameters_that_rows_share_leave_log_p_out_and_say_so(tmp_path):
    model = cases.bayesian_factors()
    x = cases.rows_of(model, 40)
    ways = {"vb": lfm.VariationalBayes(iterations=5)}
    found, again = (lfm.compare(model, x, ways, folder=tmp_path, **QUICK) for _ in range(2))
    assert "log p(x) of its own" in repr(found) and found.values["bound"]["vb"].isfinite().all()
    assert "log_likelihood" not in found.rows and found.ranks["log_likelihood"] == {}
    # Its posterior is more than weights: the numbers are kept, the fit is not.
    assert torch.equal(found.rows["bound"]["vb"], again.rows["bound"]["vb"])
    assert "vb" in found.fits and "vb" not in again.fits


def test_priors_made_of_the_guide_and_guides_made_of_the_prior_are_compared_on_copies():
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.VampPrior(2, components=5), x=lfm.Gaussian(4, mean=lfm.MLP(4)))
    x = torch.randn(30, 4)
    given = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    found = lfm.compare(
        model, x, {"given": given, "factor": lfm.Gaussian(network=lfm.MLP(4))}, seeds=2, **QUICK
    )
    assert not found.failed and found.rows["bound"]["given"].isfinite().all()
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(4)))
    ways = {"message": lfm.GaussianMessage(network=lfm.MLP(4)), "posterior": lfm.Gaussian(network=lfm.MLP(4))}
    found = lfm.compare(model, x, ways, seeds=2, **QUICK)
    assert not found.failed and found.fits["message"].guide.priors.factors["z"] is not model.factors["z"]


def test_one_test_row_has_no_error_over_rows():
    model, x = small()
    found = lfm.compare(model, x, guides(), test=x[:1], **QUICK)
    assert math.isnan(found.difference("bound", "full").error) and not found.difference("bound", "full").clear
    assert repr(found) and found.latex() and str(found.ranks["bound"]["full"]) == "1–2"


def test_what_is_said_of_one_way_alone_bears_its_name():
    model, x = small()
    patient = lfm.SVI(lfm.Guide(model, z=guides()["full"]), epochs=2, patience=5)
    found = lfm.compare(model, x, {"patient": patient, "other": guides()["full"]}, **QUICK)
    assert "patient, at most 2 steps of 60 rows; other, 2 steps" in repr(found)
    many = lfm.compare(model, x, {"em": lfm.EM()}, seeds=(3, 1), metrics=("bound", "gap"), **QUICK)
    assert "uncertain by 71%" in repr(many) and many.seeds == (3, 1) and "only way" in many.verdict


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
    def found(value):
        here = {
            "__name__": "mine",
            "lfm": lfm,
            "dist": dist,
            "nn": torch.nn,
            "functools": functools,
            "np": np,
        }
        exec(CODE[name].replace("V", str(value)), here)
        return identity_of(of=here["of"])

    assert found(1) == found(1) != found(2)


def test_edited_code_is_refused_by_a_folder(tmp_path):
    model, x = small()
    scores = []
    for value in (1.0, 2.0):
        here: dict = {"__name__": "mine"}
        exec(f"def helper():\n    return {value}\ndef score(fit, data):\n    return helper()", here)
        scores.append({"score": here["score"]})
    ways = {"em": lfm.EM(iterations=1)}
    for _ in range(2):
        found = lfm.compare(model, x, ways, metrics=scores[0], folder=tmp_path, progress=False)
        assert found.values["score"]["em"].tolist() == [1.0]
    with pytest.raises(lfm.DeclarationError, match=r"metrics.score.function.reads.helper was"):
        lfm.compare(model, x, ways, metrics=scores[1], folder=tmp_path, progress=False)


def test_tensors_of_any_layout_are_known_by_their_values():
    one = torch.ones(1).expand(1).as_strided((1,), (0,))
    assert one.stride() == (0,) and identity_of(of=one) == identity_of(of=torch.ones(1))
    assert identity_of(of=torch.eye(2).to_sparse()) == identity_of(of=torch.eye(2))
    assert identity_of(of=torch.tensor([1j]).conj()) == identity_of(of=torch.tensor([complex(0, -1)]))


def test_arguments_are_known_in_another_process():
    """The order of a set's entries, addresses, and what counters count, differ between processes."""
    script = """
import functools
import logging
import torch
import pyro_lfm as lfm
from pyro_lfm.documents.identity import identity_of
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
found = identity_of(model=model, inference=svi, of={"x", "y", "z"}, code=[helper, prior, values])
print(found)
"""
    here: dict = {"__name__": "__main__"}
    exec(script, here)
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(here["found"]) and "inference.schedule" in here["found"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"ways": {}}, "at least one"),
        ({"ways": {3: lfm.EM()}}, "name of a way must be a str"),
        ({"ways": {"a": 3}}, "way 'a' must be a factor or"),
        ({"ways": {"a": {}}}, "way 'a' must be"),
        ({"ways": {"a": lambda model: 3}}, "its function must give a guide or an inference; got 3"),
        ({"seeds": 0}, "seeds must be a positive int"),
        ({"seeds": [1, 1]}, "all different"),
        ({"baseline": "none"}, "baseline must be one of a"),
        ({"metrics": ["bounds"]}, "metrics must be names among bound, "),
        ({"metrics": []}, "at least one metric"),
        ({"metrics": {"bound": lambda fit, rows: 0.0}}, "standard one"),
        ({"metrics": {"mine": 3}}, "must be a function"),
        ({"metrics": 3}, "metrics must be names"),
        ({"metrics": {"mine": lambda fit, rows: 1j}}, "metric 'mine' must give real numbers"),
        ({"metrics": {"mine\n": lambda fit, rows: 1.0}}, "name of a metric must be one line"),
        ({"ways": {"a\nb": lfm.EM()}}, "name of a way must be one line"),
        ({"ways": {"a": torch.nn.Linear(2, 2)}}, "way 'a' must be a factor or"),
        ({"ways": {"a": lambda: lfm.EM()}}, "does not take it"),
        ({"ways": {"a": Encoder}}, "does not take it"),
        ({"ways": {"a": lfm.PyroGuide}}, "does not take it"),
        (
            {"ways": {"a": lambda batch: batch.plate()}},
            "way 'a'.*function of a batch is given as lfm.PyroGuide",
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
    options = {"model": model, "data": x, "ways": {"a": guides()["full"]}, "progress": False, **arguments}
    with pytest.raises(lfm.DeclarationError, match=words):
        lfm.compare(**options)
    with pytest.raises(lfm.DeclarationError, match="better must be"):
        lfm.Metric(len, better="larger")
    for picture in (lfm.plots.differences, lfm.plots.climbs):
        with pytest.raises(lfm.DeclarationError, match="of a Comparison, as lfm.compare gives it; got int"):
            picture(3)


def test_what_is_asked_of_a_comparison_by_another_name_is_refused(truth):
    with pytest.raises(lfm.DeclarationError, match="metrics are bound"):
        truth[2].estimate("accuracy", "full")
