"""``pyro-lfm explore``: the rows of a file or of the run's notes, columns beside the model, and Ctrl-C."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.cli import main

pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A saved fit of the columns a to c of a file, which has a column more."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)), columns=list("abc"))
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    lfm.fit(model, frame, lfm.EM(), seed=0, progress=False).save("run")
    frame.assign(kind=["x", "y"] * 20).to_csv("rows.csv", index=False)


def explored(arguments, monkeypatch, capsys):
    """What the page says of itself, and the status; Ctrl-C comes at once."""
    answer = {}

    def wait(explorer):
        answer.update(httpx.get(f"{explorer.url}api/info").json())
        explorer.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(lfm.Explorer, "wait", wait)
    status = main(["explore", "run", "--port", "0", *arguments])
    return answer, status, capsys.readouterr()


def test_a_file_is_shown_until_ctrl_c(run, monkeypatch, capsys):
    info, status, printed = explored(["--data", "rows.csv", "--json"], monkeypatch, capsys)
    assert status == 130 and json.loads(printed.out)["url"].startswith("http://127.0.0.1:")
    assert info["title"] == "rows" and info["rows"] == 40
    assert [column["name"] for column in info["views"][0]["columns"]] == ["a", "b", "c"]
    assert info["colours"][0] == {"name": "kind", "kind": "category", "labels": ["x", "y"]}
    assert info["attributes"] == [] and json.loads(printed.out)["rows"] == 40


@pytest.mark.slow  # their readers are trained for some seconds
def test_columns_are_attributes(run, monkeypatch, capsys):
    info, status, printed = explored(["--data", "rows.csv", "--attributes", "kind,b"], monkeypatch, capsys)
    assert status == 130 and "shows run: 40 rows, encoded in" in printed.out
    assert [(each["name"], each["kind"]) for each in info["attributes"]] == [
        ("kind", "binary"),
        ("b", "number"),
    ]


def test_without_a_file_the_rows_of_the_run_are_shown(run, monkeypatch, capsys):
    _, status, printed = explored([], monkeypatch, capsys)
    assert (
        status == 2
        and "run does not say which rows it was fitted to: name a file, --data FILE" in printed.err
    )
    notes = {"config": "", "data": "rows.csv", "settings": [], "warnings": [], "seconds": 0.0}
    with open("run/run.json", "w") as file:
        json.dump(notes, file)
    info, status, _ = explored([], monkeypatch, capsys)
    assert status == 130 and info["title"] == "rows"
    notes["data"] = "gone.csv"
    with open("run/run.json", "w") as file:
        json.dump(notes, file)
    _, status, printed = explored([], monkeypatch, capsys)
    assert status == 2 and "run was fitted to gone.csv, which is not there" in printed.err


def test_a_page_is_written_and_nothing_is_served(run, monkeypatch, capsys):
    from pyro_lfm.explorer import exploring

    written = {}

    def export(session, path):
        written["rows"] = len(session.rows)
        path.write_text("<!doctype html>")
        return path

    monkeypatch.setattr(exploring, "export_page", export)
    assert main(["explore", "run", "--data", "rows.csv", "--export", "page.html", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert written == {"rows": 40} and printed["page"] == "page.html" and printed["bytes"] == 15
    assert main(["explore", "run", "--data", "rows.csv", "--export", "page.txt"]) == 2
    assert "--export must end in .html" in capsys.readouterr().err
    again = ["explore", "run", "--data", "rows.csv", "--export", "page.html"]
    assert main(again) == 2 and "is there already" in capsys.readouterr().err
    assert main([*again, "--force"]) == 0
