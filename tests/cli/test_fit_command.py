"""``pyro-lfm fit``: Ctrl-C keeps the work, --resume goes on bit for bit, and what a run writes while it runs."""

import json
import os
import shlex
import signal
import time
from pathlib import Path

import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.cli import main
from pyro_lfm.cli.training_log import TrainingLog

pytest.importorskip("typer")


def weights(run):
    return lfm.load(run).model.state_dict()


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("name", "status"), [("SIGINT", 130), pytest.param("SIGTERM", 143, marks=pytest.mark.slow)]
)
def test_a_signal_keeps_the_work_and_the_printed_call_goes_on(
    here, tmp_path, monkeypatch, capsys, name, status
):
    record = TrainingLog.__call__

    def interrupt(self, entry, fit):
        record(self, entry, fit)
        if entry["epoch"] == 3:
            os.kill(os.getpid(), getattr(signal, name))

    run = tmp_path / "a run"
    monkeypatch.setattr(TrainingLog, "__call__", interrupt)
    call = ["fit", "animals.toml", "--out", str(run), "--set", "inference.epochs=6"]
    assert main([*call, "--json"]) == status
    out, err = capsys.readouterr()
    assert json.loads(out)["interrupted"] == name and json.loads(out)["epochs"] == 3
    monkeypatch.undo()
    os.chdir(here)
    (command,) = (line.partition("to go on: ")[2] for line in err.splitlines() if "to go on: " in line)
    words = shlex.split(command)
    assert words[0] == "pyro-lfm" and words[-1] == "--resume" and main(words[1:]) == 0
    assert [entry["epoch"] for entry in lfm.load(run).history] == [1, 2, 3, 4, 5, 6]
    assert main([*call[:3], str(tmp_path / "whole"), *call[4:]]) == 0
    assert same(weights(run), weights(tmp_path / "whole"))


@pytest.mark.slow
def test_resume_trains_longer(here, tmp_path):
    call = ["fit", "animals.toml", "--out", str(tmp_path / "run")]
    assert main([*call, "--set", "inference.epochs=2"]) == 0
    assert main([*call, "--set", "inference.epochs=4", "--resume"]) == 0
    assert main(["fit", "animals.toml", "--out", str(tmp_path / "whole"), "--set", "inference.epochs=4"]) == 0
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


@pytest.mark.slow
def test_two_processes_write_one_run(here, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", str(Path(lfm.__file__).parent.parent))
    call = ["fit", "animals.toml", "--set", "inference.epochs=2", "--out"]
    environment = dict(os.environ)
    assert main([*call, str(tmp_path / "two"), "--processes", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["epochs"] == 2 and dict(os.environ) == environment
    assert main([*call, str(tmp_path / "one")]) == 0
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)
    log = (tmp_path / "two" / "fit.log").read_text()
    assert log.count("begins") == log.count("ends") == 1
    assert (
        main(
            ["fit", "animals.toml", "--set", "inference.epochs=3", "--out", str(tmp_path / "two"), "--resume"]
        )
        == 0
    )
    assert [entry["epoch"] for entry in lfm.load(tmp_path / "two").history] == [1, 2, 3]


def test_processes_within_torchrun_are_refused(here, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["fit", "animals.toml", "--out", str(tmp_path / "run"), "--processes", "2"]) == 2
    assert "torchrun has started some already" in capsys.readouterr().err


@pytest.mark.slow
def test_force_replaces_a_run_and_nothing_else_does(here, tmp_path):
    call = ["fit", "animals.toml", "--out", str(tmp_path / "run"), "--set", "inference.epochs=1"]
    assert main(call) == 0
    first = weights(tmp_path / "run")
    assert main(call) == 2 and same(weights(tmp_path / "run"), first)
    assert main([*call, "--force", "--seed", "7"]) == 0 and not same(weights(tmp_path / "run"), first)
    assert lfm.load(tmp_path / "run").seed == 7


def test_validation_rows_are_measured_after_each_epoch(here, tmp_path, capsys):
    call = ["fit", "animals.toml", "--out", str(tmp_path / "run"), "--set", "inference.epochs=1", "--json"]
    assert main([*call, "--validation", "animals.csv"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out)["validation_bound"], float)


def test_a_fit_that_fails_exits_with_1_and_leaves_no_folder(here, tmp_path, capsys):
    call = ["fit", "animals.toml", "--out", str(tmp_path / "run"), "--set", "inference.learning_rate=1e30"]
    assert main([*call, "--set", "inference.max_skipped=0", "--set", "inference.epochs=20"]) == 1
    err = capsys.readouterr().err
    assert "learning_rate" in err and "Traceback" not in err and not (tmp_path / "run").exists()


def test_ctrl_c_before_there_is_anything_to_keep(here, tmp_path, monkeypatch, capsys):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(lfm, "fit", stop, raising=False)
    assert main(["fit", "animals.toml", "--out", str(tmp_path / "run")]) == 130
    assert (
        "nothing" in capsys.readouterr().err.replace("anything", "nothing")
        and not (tmp_path / "run").exists()
    )


def test_the_log_has_a_line_now_and_then(tmp_path, capsys):
    with TrainingLog(tmp_path / "fit.log", "SVI, 2 epochs", every=0.02) as log:
        log({"epoch": 1, "bound": -3.25, "validation_bound": float("nan")}, None)
        deadline = time.monotonic() + 10
        while "epoch 1, bound -3.25 nats per row" not in (tmp_path / "fit.log").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    lines = (tmp_path / "fit.log").read_text().splitlines()
    assert "begins, SVI, 2 epochs" in lines[0] and "ends, epoch 1, bound -3.25" in lines[-1]
    assert capsys.readouterr().err.splitlines() == lines  # stderr is no terminal here


def test_warnings_of_the_library_are_lines_and_stand_in_the_notes_of_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    rows[:, 1] = 2.0  # a constant column, whose noise is on its floor
    import numpy as np

    np.save("rows.npy", rows.numpy())
    assert main(["init", "rows.npy"]) == 0 and main(["fit", "rows.toml"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning:" in line]
    assert len(lines) == 1 and "floor" in lines[0]
    (noted,) = json.loads((tmp_path / "runs/rows/run.json").read_text())["warnings"]
    assert noted in lines[0]
