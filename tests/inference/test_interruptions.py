"""Signals end a training in good order: the fit so far is returned, the checkpoint is whole, handlers are put back."""

import os
import signal
import subprocess
import sys
import threading

import cases
import pytest
import torch
from resuming import At, interrupt, same_fit, state_of

import pyro_lfm as lfm

ROWS = torch.randn(32, cases.D, generator=torch.Generator().manual_seed(0))


def fitted(path=None, epochs=3, callbacks=(), **options):
    torch.manual_seed(0)
    model = cases.plain()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-diagonal"])
    svi = lfm.SVI(guide, epochs=epochs, batch_size=8, engine="eager", **options)
    return lfm.fit(model, ROWS, svi, seed=1, checkpoint=path, callbacks=callbacks, progress=False)


def send(name):
    return lambda: signal.raise_signal(getattr(signal, name))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("kept", [False, True])
def test_a_signal_ends_the_fit_with_the_work_so_far(tmp_path, monkeypatch, capsys, name, kept):
    path = tmp_path / "run" if kept else None
    At(monkeypatch, 6, send(name))
    done = fitted(path)
    assert done.interrupted == name and [record["epoch"] for record in done.history] == [1]
    assert not done.model.training and done.posterior(ROWS).mean.shape == (32, cases.K)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{name} ended the fit in epoch 2, after 6 of 12 steps" in said
    assert (
        (str(path) in said and "the same call of lfm.fit goes on" in said)
        if kept
        else "without checkpoint=" in said
    )
    monkeypatch.undo()
    if kept:
        assert same_fit(fitted(path), fitted()) and not capsys.readouterr().err
    else:
        state = state_of(done)
        again = lfm.fit(done.model, ROWS, lfm.SVI(done.guide, epochs=1), seed=1, progress=False)
        assert again.interrupted is None and not all(
            torch.equal(state[n], v) for n, v in state_of(again).items()
        )


def test_a_signal_before_the_first_step_and_in_a_callback(tmp_path, capsys):
    done = fitted(tmp_path / "run", callbacks=[lambda record, fit: interrupt()])
    assert done.interrupted == "SIGINT" and len(done.history) == 1
    assert "in epoch 1, after 4 of 12 steps" in capsys.readouterr().err
    assert same_fit(fitted(tmp_path / "run"), fitted())


def test_handlers_are_put_back(monkeypatch):
    mine = [signal.signal(signal.SIGTERM, lambda *_: None), signal.getsignal(signal.SIGINT)]
    try:
        before = signal.getsignal(signal.SIGTERM)
        seen = []
        fitted(epochs=1, callbacks=[lambda record, fit: seen.append(signal.getsignal(signal.SIGTERM))])
        assert signal.getsignal(signal.SIGTERM) is before is not seen[0]
        assert signal.getsignal(signal.SIGINT) is mine[1]
        At(monkeypatch, 2, send("SIGTERM"))
        assert fitted().interrupted == "SIGTERM" and signal.getsignal(signal.SIGTERM) is before
        with pytest.raises(ZeroDivisionError):
            fitted(epochs=1, callbacks=[lambda record, fit: 1 / 0])
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, mine[0])


def test_a_signal_that_the_process_ignores_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        At(monkeypatch, 2, interrupt)
        assert fitted().interrupted is None and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_leave_signals_alone():
    results, before = [], signal.getsignal(signal.SIGINT)
    seen = [lambda record, fit: results.append(signal.getsignal(signal.SIGINT))]
    thread = threading.Thread(target=lambda: results.append(fitted(epochs=1, callbacks=seen).interrupted))
    thread.start()
    thread.join()
    assert results == [before, None]


def test_a_second_ctrl_c_raises_at_once_and_the_checkpoint_stays_whole(tmp_path, monkeypatch):
    fitted(tmp_path / "run", epochs=1)

    def twice():
        interrupt()
        interrupt()

    At(monkeypatch, 2, twice)
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "run")
    monkeypatch.undo()
    assert same_fit(fitted(tmp_path / "run"), fitted())


def test_a_signal_inside_a_write_waits_for_its_end(tmp_path, monkeypatch):
    fsync, sent = os.fsync, []

    def sending(handle):
        if not sent:
            sent.append(interrupt())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", sending)
    done = fitted(tmp_path / "run")
    assert sent and done.interrupted == "SIGINT" and len(done.history) == 1
    monkeypatch.undo()
    assert same_fit(fitted(tmp_path / "run"), fitted())


def test_a_signal_in_a_fit_within_a_callback_ends_both():
    inner = []

    def callback(record, fit):
        with pytest.MonkeyPatch.context() as patch:
            At(patch, 2, interrupt)
            inner.append(fitted().interrupted)

    done = fitted(callbacks=[callback])
    assert inner == ["SIGINT"] and done.interrupted == "SIGINT" and len(done.history) == 1


def test_a_comparison_ends_by_keyboard_interrupt_and_goes_on(tmp_path, monkeypatch, capsys):
    def compared(folder):
        torch.manual_seed(0)
        candidates = {name: lfm.Gaussian(network=lfm.MLP(size)) for name, size in (("a", 4), ("b", 5))}
        options = {"epochs": 2, "batch_size": 8, "draws": 5, "progress": False, "metrics": ["bound"]}
        return lfm.compare(cases.plain(), ROWS, candidates, folder=folder, **options)

    whole = compared(None)
    for step in (3, 11):
        with pytest.MonkeyPatch.context() as patch:
            At(patch, step, interrupt)
            with pytest.raises(
                KeyboardInterrupt, match=r"SIGINT ended the comparison in the fit of '[ab]', seed 0; the same"
            ):
                compared(tmp_path)
        assert capsys.readouterr().err.count("\n") == 1
    went_on = compared(tmp_path)
    assert all(torch.equal(went_on.rows["bound"][name], whole.rows["bound"][name]) for name in ("a", "b"))
    At(monkeypatch, 3, interrupt)
    with pytest.raises(KeyboardInterrupt, match="give folder="):
        compared(None)


# Times ---------------------------------------------------------------------------------------------------------


def writes(monkeypatch):
    """The places in the fit at which its state was written."""
    from pyro_lfm.inference.svi.resuming import Resuming

    places, save = [], Resuming._save

    def saved(self, engine):
        places.append(self.loop.place)
        save(self, engine)

    monkeypatch.setattr(Resuming, "_save", saved)
    return places


PLACES = {
    "each epoch": [(1, 4, False), (2, 8, False), (3, 12, False)],
    "each second epoch": [(2, 8, False), (3, 12, False)],
    "at the end": [(3, 12, False)],
    "by time": [(3, 12, False)],
    "by both": [(2, 8, False), (3, 12, False)],
}


@pytest.mark.parametrize("name", PLACES)
def test_a_state_is_written_after_so_many_epochs_and_at_the_end(tmp_path, monkeypatch, name):
    places = writes(monkeypatch)
    fitted(cases.CHECKPOINTS[name](tmp_path / "run"))
    assert places == PLACES[name]
    assert len(fitted(tmp_path / "run").history) == 3 and places == PLACES[name]


def test_a_state_is_written_by_time_inside_an_epoch_too(tmp_path, monkeypatch):
    places = writes(monkeypatch)
    At(monkeypatch, 0, interrupt)
    fitted(lfm.Checkpoint(tmp_path / "run", epochs=None, seconds=0.0), epochs=1)
    assert places == [(1, 1, True), (1, 2, True), (1, 3, True), (1, 4, False)]


def test_values_that_no_file_can_hold_are_refused_after_the_first_epoch(tmp_path):
    bad = [lambda record, fit: record.update(bad=object())]
    with pytest.raises(lfm.DeclarationError, match=r"history\[0\]\['bad'\]"):
        fitted(lfm.Checkpoint(tmp_path / "run", epochs=3), callbacks=bad)
    assert not (tmp_path / "run").exists()


# The disk --------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_an_error_in_words_and_loses_nothing(tmp_path, small_disk):
    filler, trained = small_disk / "filler", {}

    def fill(record, fit):
        if record["epoch"] == 2 and filler.parent.exists() and not trained:
            trained.update({name: value.clone() for name, value in fit.model.state_dict().items()})
            with pytest.raises(OSError), open(filler, "wb") as file:
                while True:
                    file.write(b"0" * 1024)
                    file.flush()

    torch.manual_seed(0)
    model = cases.plain()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-diagonal"])
    svi = lfm.SVI(guide, epochs=3, batch_size=8, engine="eager")
    options = {"seed": 1, "checkpoint": small_disk / "run", "callbacks": [fill], "progress": False}
    with pytest.raises(
        lfm.DataError, match="cannot be written to .*: No space left on device; what was there before stays"
    ):
        lfm.fit(model, ROWS, svi, **options)
    assert all(torch.equal(trained[name], value) for name, value in model.state_dict().items())
    filler.unlink()
    resumed = fitted(small_disk / "run")
    assert same_fit(resumed, fitted()) and len(resumed.history) == 3


# Kills: a process of its own, see tests/kills.py ---------------------------------------------------------------


def kills(*arguments):
    program = os.path.join(os.path.dirname(cases.__file__), "kills.py")
    done = subprocess.run([sys.executable, program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_five_kills_at_random_moments_change_nothing():
    assert "5 kills" in kills("--kills", "5", "--epochs", "4")


@pytest.mark.kill
@pytest.mark.parametrize(("engine", "epochs"), [("eager", "8"), ("compiled", "20")])
def test_a_hundred_kills_change_nothing(engine, epochs):
    assert "100 kills" in kills("--kills", "100", "--engine", engine, "--epochs", epochs)
    assert "a kill at each of" in kills("--calls", "--engine", engine, "--epochs", "2")
