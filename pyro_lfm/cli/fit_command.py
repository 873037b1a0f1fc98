"""``pyro-lfm fit CONFIG``: fits a declaration to its rows, in a folder that keeps the work while it runs."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyro_lfm.cli.configurations import ConfigFile, Configuration, DataOption, read_configuration
from pyro_lfm.cli.output import AsJson, Value, say, show, warnings_as_lines
from pyro_lfm.cli.output_files import Force
from pyro_lfm.cli.runs import NOTES, Notes
from pyro_lfm.cli.settings import Settings
from pyro_lfm.cli.training_log import TrainingLog
from pyro_lfm.cli.user_parts import PartsFile, parts_of
from pyro_lfm.errors import CheckpointError, DataError

if TYPE_CHECKING:
    from pyro_lfm.inference import Fit
    from pyro_lfm.inference.task import Inference

# Seconds between two writes of a checkpoint.
_SECONDS = 20.0
# The files of a run, by which a folder is known as one.
_STATE, _FIT, _LOG, _CONFIG = "state.json", "fit.json", "fit.log", "config.toml"
_OWN = {_STATE, "state.safetensors", _FIT, "weights.safetensors", "declaration.toml", "history.csv", NOTES, _LOG,
        _CONFIG, "report.html", ".next", ".ready"}  # fmt: skip


def fit(
    config: ConfigFile,
    data: DataOption = None,
    out: Annotated[
        Path | None, typer.Option(metavar="RUN", help="The folder of the run; runs/CONFIG by default.")
    ] = None,
    settings: Settings = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of first weights, order of rows and noise; 0 by default.")
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Rows whose bound is measured after each epoch.")
    ] = None,
    device: Annotated[
        str, typer.Option(help='Such as cpu or cuda:0; "auto" is a GPU where there is one.')
    ] = "auto",
    force: Force = False,
    parts: PartsFile = None,
    as_json: AsJson = False,
) -> None:
    """Fit a declaration to its rows. The folder keeps the work while it runs: Ctrl-C loses nothing, --resume goes on.

    To fit longer: --resume --set inference.epochs=40. On a terminal a bar shows the progress; RUN/fit.log has a line a
    minute.
    """
    run = out if out is not None else Path("runs") / config.stem
    chosen = read_configuration(config, data, settings or (), parts_of(parts))
    _check_folder(run, resume, force)
    rows = chosen.rows()
    held_out = None if validation is None else chosen.rows_in(validation)
    if resume:
        _check_resumable(run, chosen)
    elif force:
        _remove(run)
    is_new = not run.exists()
    started = time.monotonic()
    notes = Notes.of(run) if resume else Notes()
    notes = Notes(
        str(config.absolute()),
        str(chosen.data_path.absolute()),
        list(settings or ()),
        notes.warnings,
        notes.seconds,
    )
    try:
        with warnings_as_lines() as warnings:
            result, before = _fitted(chosen, rows, held_out, run, resume, seed, device)
    except BaseException as error:
        _clean(run, is_new)
        if isinstance(error, KeyboardInterrupt) and not (run / _STATE).exists():
            say("interrupted before there was anything to keep")
        raise
    if resume and len(result.history) == before and not result.interrupted:
        raise CheckpointError(
            f"the run {run} has ended, after {_length(result)}: there is nothing left to do. To train longer, add "
            "--set inference.epochs= with a larger number"
        )
    notes.seconds += time.monotonic() - started
    notes.warnings += [text for text in warnings if text not in notes.warnings]
    _note(run, notes)
    outcome = _outcome(result, run, notes)
    show(outcome, _text(result, run, notes), as_json)
    if result.interrupted:
        say(f"the work is kept; to go on: {_command(config, data, out, settings, seed, validation, parts)}")
        raise typer.Exit(130 if result.interrupted == "SIGINT" else 143)


def _check_folder(run: Path, resume: bool, force: bool) -> None:
    """Raises DataError where a folder cannot take the run."""
    if run.exists() and not run.is_dir():
        raise DataError(f"--out must be a folder; {run} is a file: name another one")
    there = {path.name for path in run.iterdir()} if run.is_dir() else set()
    holds_run = bool(there & {_STATE, _FIT})
    if resume:
        if not holds_run:
            raise DataError(
                f"there is no run in {run} to go on with: leave --resume out, or name its folder by --out"
            )
        return
    if holds_run and not force:
        raise DataError(
            f"{run} holds a run already: go on with it by --resume, name another folder by --out, or replace it by --force"
        )
    if others := sorted(there - _OWN):
        raise DataError(f"{run} holds other files, such as {others[0]}: name another folder by --out")


def _check_resumable(run: Path, chosen: Configuration) -> None:
    """Raises CheckpointError where a run has no state to go on from."""
    kind = type(chosen.inference).__name__
    if not (run / _STATE).exists() and not (run / ".ready" / _STATE).exists():
        raise CheckpointError(
            f"the run {run} cannot go on: it keeps no state of its training, as {kind} runs to its end in one piece, or as "
            "Python saved it. Leave --resume out, with --force or another --out"
        )


def _fitted(
    chosen: Configuration, rows: Any, held_out: Any, run: Path, resume: bool, seed: int | None, device: str
) -> tuple[Fit, int]:
    """The fit, and the number of epochs that were done before."""
    import pyro_lfm as lfm

    before = len(lfm.load(run).history) if resume and (run / _FIT).exists() else 0
    if seed is None and not resume:
        seed = 0
    with suppress(OSError):
        run.mkdir(parents=True, exist_ok=True)
    if not run.is_dir():
        raise DataError(f"--out is {run}, and this folder cannot be made: name another one")
    # Exact inferences keep no state: their result is saved at the end.
    keeps_state = isinstance(chosen.inference, lfm.SVI)
    with TrainingLog(run / _LOG, _plan(chosen.inference)) as log:
        done = lfm.fit(
            chosen.model,
            rows,
            chosen.inference,
            validation=held_out,
            seed=seed,
            callbacks=[log],
            progress=sys.stderr.isatty(),
            device=device,
            checkpoint=lfm.Checkpoint(run, epochs=None, seconds=_SECONDS) if keeps_state else None,
        )
        if not keeps_state:
            done.save(run)
    return done, before


def _plan(inference: Inference) -> str:
    """How long a training is to be, in words."""
    for name in ("epochs", "steps", "iterations"):
        if amount := getattr(inference, name, None):
            return f"{type(inference).__name__}, {amount} {name}"
    return type(inference).__name__


def _remove(run: Path) -> None:
    """Removes the run in a folder, whose own files alone it holds."""
    for path in run.iterdir() if run.is_dir() else ():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _clean(run: Path, is_new: bool) -> None:
    """Removes what a failed call has left, if there is no work in it."""
    if (run / _FIT).exists() or (run / _STATE).exists():
        return
    with suppress(OSError):
        (run / _LOG).unlink(missing_ok=True)
        if is_new:
            run.rmdir()


def _note(run: Path, notes: Notes) -> None:
    from pyro_lfm.storage.folder import Folder

    Folder(run, "run").commit({NOTES: notes.text()})


def _length(result: Fit) -> str:
    """How long a fit was, in words."""
    last = result.history[-1] if result.history else {}
    unit = "iterations" if "iteration" in last else "epochs"
    return f"{last.get('epoch', 0)} {unit}"


def _outcome(result: Fit, run: Path, notes: Notes) -> dict[str, Value]:
    last = result.history[-1] if result.history else {}
    return {
        "run": str(run),
        "epochs": last.get("epoch", 0),
        "steps": last.get("step") if isinstance(last.get("step"), int) else None,
        "bound": last.get("bound"),
        "log_likelihood": last.get("log_likelihood"),
        "validation_bound": last.get("validation_bound"),
        "skipped_steps": result.skipped,
        "converged": result.converged,
        "interrupted": result.interrupted,
        "seconds": round(notes.seconds, 3),
        "warnings": list(notes.warnings),
    }


def _text(result: Fit, run: Path, notes: Notes) -> str:
    last = result.history[-1] if result.history else {}
    number = last.get("log_likelihood", last.get("bound", float("nan")))
    what = "log p(x)" if "log_likelihood" in last else "bound"
    lines = [f"{run}: {_length(result)} in {notes.seconds:.0f} s, {what} {number:.4g} nats per row"]
    if not result.interrupted:
        lines.append(f"to see what was learned: pyro-lfm report {shlex.quote(str(run))}")
    return "\n".join(lines)


def _command(
    config: Path,
    data: Path | None,
    out: Path | None,
    settings: list[str] | None,
    seed: int | None,
    validation: Path | None,
    parts: Path | None,
) -> str:
    """The call that goes on with a run."""
    words = ["pyro-lfm", "fit", str(config)]
    for name, value in (
        ("data", data),
        ("out", out),
        ("seed", seed),
        ("validation", validation),
        ("parts", parts),
    ):
        words += [] if value is None else [f"--{name}", str(value)]
    for setting in settings or ():
        words += ["--set", setting]
    return shlex.join([*words, "--resume"])
