"""Tables, metrics, verdicts and pictures of comparisons, with failed and missing values."""

import itertools
import json
import math
import sys

import pytest
import torch
from comparison_cases import QUICK, guides, small

import pyro_lfm as lfm


def test_metrics_of_the_user_are_paired_and_measured_with_the_same_noise():
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
    latex = result.latex("all")
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


def test_a_candidate_that_fails_does_not_stop_the_others(tmp_path):
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


def comparison_of(metric="score", **rows):
    """A comparison of given values (seeds, N) of candidates."""
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
    """A is better than no other: where it has values B is better, though B's mean is lower by what B did elsewhere."""
    noise, nan = 0.01 * torch.randn(3, 2, 20, generator=torch.Generator().manual_seed(0)), math.nan
    by_row = comparison_of(
        A=torch.cat([10 + noise[0], torch.full((2, 20), nan)], 1),
        B=torch.cat([11 + noise[1], noise[2]], 1),
    )
    by_seed = comparison_of(A=[[10.0, 10.1], [nan, nan]], B=[[11.0, 11.2], [0.0, 0.1]])
    for result in (by_row, by_seed):
        assert result.estimate("score", "A").mean > result.estimate("score", "B").mean
        assert result.difference("score", "B").mean > 0.9
        assert [result.ranks["score"][candidate].place for candidate in "AB"] == [2, 1]
        assert "B is best. It is clearly better than A by 1." in result.verdict
        assert "**" in next(line for line in result.markdown().splitlines() if line.startswith("| B"))
        assert "Not all candidates have score of the same rows and seeds" in repr(result)
    # Each pair has different rows in common, and each candidate loses against one other.
    circle = comparison_of(
        A=[[1.0, 1.1, 0, 0.1, nan, nan]], B=[[0, 0.2, nan, nan, 1, 1.3]], C=[[nan, nan, 1, 1.2, 0, 0.1]]
    )
    assert {rank.place for rank in circle.ranks["score"].values()} == {1}
    assert "no candidate is best" in circle.verdict and "contradict" in circle.verdict
    # Without common rows the means decide the places, and no difference is clear.
    nothing = comparison_of(A=[[1.0, 1.1, nan, nan]], B=[[nan, nan, 0, 0.2]])
    assert str(nothing.ranks["score"]["A"]) == "1–2" and "do not tell it apart from B" in nothing.verdict


@pytest.mark.parametrize("value", [-math.inf, math.inf, math.nan])
def test_a_bound_that_is_not_finite_counts_as_failed_in_words(value, tmp_path):
    result = comparison_of(
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
    alone = comparison_of("bound", bad=[[value, value]], good=[[1.0, 2.0]])
    assert alone.verdict == "good is the only candidate that was measured by bound."
    with pytest.raises(lfm.DeclarationError, match="the baseline bad has no bound"):
        lfm.plots.differences(alone)


SECONDS = [0.002], [0.0015, 0.0002], [1.3, 0.9, 1.1], [0.01] + [3.0] * 30, [1e-3] + [50.0] * 300


def test_pictures_hold_any_name_and_have_few_ticks_that_differ(tmp_path):
    result = comparison_of(**{"$\\foo$": [[1.0, 2.0]], "a$_b": [[1.5, 2.6]], "c": [[1.0, 1.1]]})
    for slowest, seconds in itertools.product((1.3, 40.0, 3000.0), SECONDS):
        history = [{"epoch": k + 1, "seconds": s, "bound": -1.0 / (k + 1)} for k, s in enumerate(seconds)]
        for candidate, slower in zip(result.candidates, (1.0, 1.05, slowest), strict=True):
            result.histories[candidate][0] = [
                {**entry, "seconds": slower * entry["seconds"]} for entry in history
            ]
        figure = lfm.plots.bounds_by_time(result)
        figure.savefig(tmp_path / "bounds.png")
        for ax in figure.axes:
            (low, high), labels = ax.get_xlim(), ax.get_xticklabels()
            words = [label.get_text() for label in labels if low <= label.get_position()[0] <= high]
            assert 1 <= len(words) <= 6 and len(set(words)) == len(words), words
            assert not ax.get_xticklabels(minor=True)
    pictured = lfm.plots.differences(result)
    pictured.savefig(tmp_path / "differences.png")
    assert pictured.axes[0].get_xlabel() == "score over \\$\\foo\\$"


def test_the_verdict_without_any_number_says_so():
    result = comparison_of(A=[[math.nan, math.nan]])
    assert result.verdict == "No candidate has a number for score, by which they are judged."


def test_a_note_for_one_candidate_has_its_name():
    model, x = small()
    patient = lfm.SVI(lfm.Guide(model, z=guides()["full"]), epochs=2, patience=5)
    result = lfm.compare(model, x, {"patient": patient, "other": guides()["full"]}, **QUICK)
    assert "patient, at most 2 steps of 60 rows; other, 2 steps" in repr(result)
    many = lfm.compare(model, x, {"em": lfm.EM()}, seeds=(3, 1), metrics=("bound", "gap"), **QUICK)
    assert "uncertain by 71%" in repr(many) and many.seeds == (3, 1) and "only candidate" in many.verdict


def test_greek_names_of_candidates_are_formulas_in_latex():
    """pdflatex stops at a Greek letter in text."""
    named = {"β = 4": [[0.0, 0.1]], "Σ full": [[1.0, 1.2]]}
    assert [line.partition(" & ")[0] for line in comparison_of(**named).latex().splitlines() if "&" in line][
        1:
    ] == [
        r"$\beta$ = 4",
        r"$\Sigma$ full",
    ]
