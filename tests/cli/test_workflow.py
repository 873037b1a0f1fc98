"""From a CSV file with holes to a filled one and a page, by commands alone; every command's result as JSON."""

import json

import numpy as np
import pandas as pd
import pytest
from cli_run import HOLES, ROWS, mixed_table

import pyro_lfm as lfm
from pyro_lfm.cli import main

pytest.importorskip("typer")


def result(arguments, capsys):
    """The JSON on stdout of a command that succeeds; nothing else may stand there."""
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_init_writes_a_declaration_that_names_columns_kinds_and_missing_shares(here, tmp_path, capsys):
    written = result(["init", "animals.csv", "--out", tmp_path / "a.toml"], capsys)
    assert written["rows"] == ROWS and list(written["columns"]) == list(mixed_table())
    assert written["columns"]["kind"] == "categorical" and written["columns"]["sex"] == "binary"
    text = (tmp_path / "a.toml").read_text(encoding="utf-8")
    assert "missing" in text and "[data.columns]" in text and text.count("\n#") > 8
    declared = lfm.declare(tmp_path / "a.toml")
    assert declared.inference is not None and set(declared.table.groups) == set(declared.table.factors)


def test_columns_that_cannot_be_modelled_are_left_out_and_named(tmp_path, monkeypatch, capsys):
    frame = mixed_table().assign(id=[f"row {k}" for k in range(ROWS)], same=1)
    frame.to_csv(tmp_path / "with_names.csv", index=False)
    monkeypatch.chdir(tmp_path)
    assert list(result(["init", "with_names.csv"], capsys)["left_out"]) == ["id", "same"]
    assert [c.name for c in lfm.declare("with_names.toml").table.columns] == list(mixed_table())


def test_the_run_is_a_fit_that_python_loads(here):
    fit = lfm.load("runs/animals")
    assert len(fit.history) == 60 and fit.seed == 0
    assert fit.posterior(pd.read_csv("animals.csv")).mean.shape == (ROWS, 2)
    log = (here / "runs/animals/fit.log").read_text(encoding="utf-8")
    assert "begins, SVI, 60 epochs" in log and "ends, epoch 60, bound" in log


def test_impute_fills_the_holes_and_leaves_all_other_bytes(here, tmp_path, capsys):
    out, cells = tmp_path / "filled.csv", tmp_path / "cells.csv"
    done = result(
        ["impute", "runs/animals", "animals.csv", "--out", out, "--cells", cells, "--refine", 10], capsys
    )
    assert done["filled"] == HOLES
    before, after = ((f.read_bytes()).split(b"\r\n") for f in (here / "animals.csv", out))
    assert len(before) == len(after)
    assert before.pop() == after.pop() == b""
    for old, new in zip(before, after, strict=True):
        for was, now in zip(old.split(b","), new.split(b","), strict=True):
            assert now == was if was else now
    table = pd.read_csv(cells)
    assert len(table) == HOLES and set(table["column"]) <= set(mixed_table())
    numbers = table[table["column"] == "length"]
    assert (numbers["low"].astype(float) < numbers["high"].astype(float)).all()


@pytest.mark.slow
def test_imputed_numbers_are_nearer_than_the_mean(here, tmp_path, capsys):
    """The factor leaves an error of 0.2 standard deviations, squared 0.04; a false alarm needs 0.5 from 20 rows."""
    frame = mixed_table()
    truth = frame["mass"].copy()
    hidden = np.random.default_rng(1).choice(ROWS, 20, replace=False)
    frame.loc[hidden, "mass"] = None
    frame.to_csv(tmp_path / "hidden.csv", index=False)
    out = tmp_path / "filled.parquet"
    result(["impute", "runs/animals", tmp_path / "hidden.csv", "--out", out, "--refine", 100], capsys)
    error = (pd.read_parquet(out)["mass"] - truth)[hidden]
    assert error.pow(2).mean() < 0.5 * (truth[hidden] - frame["mass"].mean()).pow(2).mean()


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".npy", ".npz"])
def test_transform_writes_the_posterior_means_in_every_format(here, tmp_path, ending, capsys):
    out = tmp_path / f"z{ending}"
    done = result(["transform", "runs/animals", "animals.csv", "--out", out], capsys)
    assert done["columns"] == ["z_1", "z_2"]
    read = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".npy": np.load}.get(ending)
    rows = np.load(out)["z"] if ending == ".npz" else np.asarray(read(out))
    expected = lfm.load("runs/animals").posterior(lfm.data.open("animals.csv")).mean.numpy()
    assert np.allclose(rows, expected, atol=1e-6)


def test_transform_beside_the_data(here, tmp_path, capsys):
    out = tmp_path / "beside.csv"
    result(["transform", "runs/animals", "animals.csv", "--out", out, "--with-data", "--deviations"], capsys)
    assert list(pd.read_csv(out)) == [*mixed_table(), "z_1", "z_2", "z_1_sd", "z_2_sd"]


def test_sample_draws_rows_with_the_labels_of_the_data(here, tmp_path, capsys):
    for name in ("one.csv", "two.csv"):
        result(
            ["sample", "runs/animals", "-n", 50, "--out", tmp_path / name, "--seed", 3, "--latents"], capsys
        )
    frame = pd.read_csv(tmp_path / "one.csv")
    assert list(frame) == [*mixed_table(), "z_1", "z_2"] and len(frame) == 50
    assert set(frame["kind"]) <= {"big", "middle", "small"}
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_evaluate_measures_likelihood_and_every_column(here, capsys):
    done = result(["evaluate", "runs/animals", "animals.csv", "--draws", 50, "--refine", 5], capsys)
    assert done["rows"] == ROWS and done["log_likelihood"]["mean"] >= done["bound"]["mean"] - 0.5
    assert done["log_likelihood"]["error_over_rows"] > 0
    by_name = {column["column"]: column for column in done["columns"]}
    assert list(sorted(by_name)) == sorted(mixed_table())
    assert by_name["length"]["reconstructed"] < 0.8 and by_name["kind"]["reconstructed"] > 0.7
    assert not done["not_measured"]


def test_compare_measures_all_on_the_same_held_out_rows(here, tmp_path, capsys):
    text = (
        (here / "animals.toml").read_text(encoding="utf-8").replace("animals.csv", str(here / "animals.csv"))
    )
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    call = ["compare", tmp_path / "one.toml", tmp_path / "two.toml", "--held-out", 0.25, "--draws", 20]
    done = result([*call, "--set", "inference.epochs=1"], capsys)
    assert (done["rows_fitted"], done["rows_measured"]) == (90, 30)
    one, two = done["candidates"].values()  # equal declarations and seeds
    assert one["log_likelihood"] == two["log_likelihood"] and two["below_best"] == 0.0


@pytest.mark.slow
def test_compare_prefers_the_model_that_can_explain_the_columns(here, tmp_path, capsys):
    """A model whose factor is switched off, against one that has it: a difference of about 2 nats per row."""
    text = (
        (here / "animals.toml")
        .read_text(encoding="utf-8")
        .replace('"animals.csv"', json.dumps(str(here / "animals.csv")))
    )
    (tmp_path / "with_factor.toml").write_text(text, encoding="utf-8")
    off = text.replace("network=Linear()", "network=Linear(weight=Fixed(0.0))")
    (tmp_path / "without.toml").write_text(off, encoding="utf-8")
    configs = [tmp_path / "with_factor.toml", tmp_path / "without.toml"]
    done = result(["compare", *configs, "--set", "inference.epochs=40", "--draws", 50], capsys)
    assert done["best"] == "with_factor" and done["measure"] == "log_likelihood"
    assert done["rows_fitted"] + done["rows_measured"] == ROWS
    other = done["candidates"]["without"]
    assert other["below_best"] > 2 * other["below_best_error"] > 0


def test_describe_prints_the_formulas_of_a_declaration_and_of_a_run(here, capsys):
    for source in ("animals.toml", "runs/animals"):
        done = result(["describe", source], capsys)
        assert "p(z" in done["description"] and done["declaration"]["model"]["z"]["event"] == 2
    done = result(["describe", "animals.toml", "--set", "model.z.event=4"], capsys)
    assert done["declaration"]["model"]["z"]["event"] == 4


@pytest.mark.slow
def test_report_is_one_page_that_loads_nothing(here, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out = tmp_path / "page.html"
    done = result(["report", "runs/animals", "--out", out, "--draws", 50], capsys)
    page = out.read_text(encoding="utf-8")
    assert done["page"] == str(out) and done["rows"] == ROWS
    assert (
        "http://" not in page
        and "https://" not in page
        and "<script" not in page
        and "default-src 'none'" in page
    )
    for words in (
        "What is doubtful",
        "What was declared",
        "p(z, ",
        "Training",
        "What each factor does",
        "Calibration",
    ):
        assert words in page
    assert page.count("data:image/") >= 5 and "length" in page


def test_report_without_rows_says_what_is_lacking(here, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    fit = lfm.load("runs/animals")
    fit.save(tmp_path / "saved")
    assert main(["report", str(tmp_path / "saved")]) == 0
    assert "--data FILE adds what needs rows" in capsys.readouterr().err
    assert "What each factor does" in (tmp_path / "saved/report.html").read_text(encoding="utf-8")
