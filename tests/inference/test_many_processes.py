"""One fit by several processes on this machine, started as torchrun does or by torchrun: it is the fit of one process."""

import json
import re
import time

import pytest
import torch
from shared_fits import (
    SAME,
    TASKS,
    faulty,
    fitted,
    gamma,
    launched,
    longer,
    mean_field,
    parameters_of,
    started,
)

import pyro_lfm as lfm

# Largest difference of parameters, and of the bounds of a history relative to their size.
CLOSE = 1e-10
BOUNDS = ("bound", "reconstruction", "kl", "validation_bound")


@pytest.fixture(scope="module", autouse=True)
def double_precision():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """What each of two processes gives for some tasks, done by one start: {task: [of rank 0, of rank 1]}."""
    folder = tmp_path_factory.mktemp("two")
    tasks = ["same", "gamma", "refused", "agreed", "own_group", "terminated", "two_epochs"]
    ends = started(2, folder, *tasks)
    stderr = "".join((folder / f"stderr-{rank}").read_text() for rank in range(2))
    assert ends == [0, 0], stderr
    results = {task: [torch.load(folder / f"{task}-{rank}.pt") for rank in range(2)] for task in tasks}
    return {**results, "folder": folder, "stderr": stderr}


def same_history(one, other):
    assert len(one) == len(other)
    for record, expected in zip(one, other, strict=True):
        assert (record["epoch"], record["step"]) == (expected["epoch"], expected["step"])
        for name in BOUNDS:
            assert record[name] == pytest.approx(expected[name], rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("name", SAME)
def test_two_processes_give_the_parameters_of_one(done, name):
    expected = fitted(SAME[name])
    for results in done["same"]:
        parameters, history = results[name]
        assert float((parameters - parameters_of(expected)).abs().max()) < CLOSE
        same_history(history, expected.history)


def test_both_processes_have_the_same_fit_to_the_last_bit(done):
    first, second = done["same"]
    for name in SAME:
        assert torch.equal(first[name][0], second[name][0])
        assert json.dumps(first[name][1]) == json.dumps(second[name][1])


def test_latents_drawn_by_rejection_are_equal_in_distribution(done):
    # 50 draws of 47 rows: the deviation of the mean over draws was below 0.03 nats in 20 seeds, a tenth of this.
    expected = fitted(gamma).history[-1]["bound"]
    assert done["gamma"][0][-1]["bound"] == pytest.approx(expected, abs=0.3)
    assert done["gamma"][0][-1]["bound"] != expected


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ("seed", "DeclarationError", "seed is 0 in process 0 and 1 in process 1"),
        ("data", "DeclarationError", "data is .* rows of x"),
        ("model", "DeclarationError", "model.* is 2 in process 0 and 3 in process 1"),
        ("options", "DeclarationError", "learning_rate is 0.1 in process 0 and 1.1 in process 1"),
        ("batch norm", "DeclarationError", "cannot train model.*BatchNorm1d"),
        ("penalty", "DeclarationError", "MaximumMeanDiscrepancy"),
        ("rows together", "DeclarationError", "all rows together"),
        ("pyro", "DeclarationError", 'engine="pyro"'),
        ("raises", "TrainingError", "ValueError: no such row"),
        ("callback", "", "epoch"),
    ],
)
def test_what_cannot_be_shared_is_refused_in_every_process(done, call, error, words):
    for errors, _ in done["refused"]:
        kind, message = errors[call]
        assert kind == error or (not error and kind in ("KeyError", "TrainingError"))
        assert re.search(words, message)


def test_a_fit_after_refused_ones_is_as_without_them(done):
    expected = fitted(mean_field).history[-1]["bound"]
    for _, bound in done["refused"]:
        assert bound == pytest.approx(expected, rel=1e-9)


def test_what_one_process_alone_has_counts_for_all(done):
    first, second = done["agreed"]
    history, parameters, trains = first["stopped"]
    assert [record["noted"] for record in history] == [0, 0] and not any(trains)
    assert history == second["stopped"][0] and trains == second["stopped"][2]
    assert torch.equal(parameters, second["stopped"][1])
    assert first["skipped"][0] == second["skipped"][0] == 1
    assert torch.equal(first["skipped"][1], second["skipped"][1]) and first["skipped"][1].isfinite().all()
    assert torch.equal(first["no seed"], second["no seed"])
    assert json.dumps(first["exact"][0]) == json.dumps(second["exact"][0])
    assert torch.equal(first["exact"][1], second["exact"][1])


def test_a_group_is_left_as_it_was(done):
    expected = parameters_of(fitted(mean_field))
    for agreed, (parameters, stays) in zip(done["agreed"], done["own_group"], strict=True):
        assert not agreed["left behind"] and stays
        assert float((parameters - expected).abs().max()) < CLOSE


def test_a_warning_comes_once(done):
    assert done["stderr"].count("SkippedStepWarning") == 1


def test_a_signal_to_one_process_ends_the_fit_of_all(done):
    expected = parameters_of(fitted(faulty("none")))
    (first, _, _), (second, _, _) = done["terminated"]
    assert first == second and first[0] == "SIGTERM" and 0 < first[1] < 10
    assert done["stderr"].count("SIGTERM ended the fit") == 1
    for _, interrupted, parameters in done["terminated"]:
        assert interrupted is None and float((parameters - expected).abs().max()) < CLOSE


def test_a_checkpoint_of_two_processes_is_resumed_by_one(done):
    expected = fitted(longer)
    resumed = fitted(longer, checkpoint=done["folder"] / "longer")
    assert [len(history) for history in done["two_epochs"]] == [2, 2]
    same_history(resumed.history, expected.history)
    assert float((parameters_of(resumed) - parameters_of(expected)).abs().max()) < CLOSE


@pytest.mark.slow
def test_a_checkpoint_of_two_processes_is_resumed_by_three(tmp_path):
    for processes, task in ((2, "two_epochs"), (3, "six_epochs")):
        run = launched(processes, tmp_path, task)
        assert run.returncode == 0, run.stderr
    expected = fitted(longer)
    for rank in range(3):
        history, parameters = torch.load(tmp_path / f"six_epochs-{rank}.pt")
        same_history(history, expected.history)
        assert float((parameters - parameters_of(expected)).abs().max()) < CLOSE


@pytest.mark.slow
def test_a_killed_process_ends_all_and_a_restart_goes_on(tmp_path):
    started = time.monotonic()
    run = launched(2, tmp_path, "killed", restarts=1)
    assert run.returncode == 0 and time.monotonic() - started < 60, run.stderr
    assert "another process of this fit has ended" in run.stderr
    expected = fitted(faulty("none"))
    for rank in range(2):
        history, parameters = torch.load(tmp_path / f"killed-{rank}.pt")
        same_history(history, expected.history)
        assert float((parameters - parameters_of(expected)).abs().max()) < CLOSE


# Parts that several processes refuse, or draw by rejection.
NOT_SHARED = {
    *(f"{kind} {name}" for kind in ("objective", "mixture") for name in (
        "total-correlation", "info-vae", "penalised-importance",
    )),
    # Pyro's score function of a label takes the cost of all rows.
    "mixture pyro-trace-elbo", "mixture pyro-vectorized",
}  # fmt: skip
BY_REJECTION = {"guide student-t"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_part_is_shared_or_refused(tmp_path):
    ends = started(2, tmp_path, "every_part")
    assert ends == [0, 0], (tmp_path / "stderr-0").read_text()
    first, second = (torch.load(tmp_path / f"every_part-{rank}.pt") for rank in range(2))
    for name, expected in TASKS["every_part"](tmp_path).items():
        if name in NOT_SHARED:
            assert first[name] == second[name] == "DeclarationError"
        elif isinstance(expected, str):
            assert first[name] == second[name] == expected
        else:
            assert torch.equal(first[name], second[name]), name
            close = float((first[name] - expected).abs().max()) < CLOSE
            assert close != (name in BY_REJECTION), name


def test_without_addresses_a_launched_process_says_what_is_missing(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.delenv("MASTER_PORT", raising=False)
    with pytest.raises(lfm.DeclarationError, match="MASTER_ADDR and MASTER_PORT of torchrun is not set"):
        fitted(mean_field)
    monkeypatch.setenv("WORLD_SIZE", "1")
    fitted(mean_field, validation=None)
    monkeypatch.delenv("RANK")
    monkeypatch.setenv("WORLD_SIZE", "2")  # some job's own, not torchrun's
    fitted(mean_field, validation=None)
