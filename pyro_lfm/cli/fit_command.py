"""``pyro-lfm fit CONFIG``: fits a declaration to its rows, in a folder that keeps the work while it runs."""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyro_lfm.cli.configurations import ConfigFile, Configuration, DataOption, read_configuration
from pyro_lfm.cli.followers import followers, is_follower
from pyro_lfm.cli.output import LARGEST_SEED, AsJson, Value, say, show, warnings_as_lines
from pyro_lfm.cli.output_files import Force
from pyro_lfm.cli.run_folder import LOG, check_folder, check_resumable, holds_fit, taken
from pyro_lfm.cli.runs import NOTES, Notes
from pyro_lfm.cli.settings import Settings
from pyro_lfm.cli.training_log import TrainingLog
from pyro_lfm.cli.user_parts import PartsFile, parts_of
from pyro_lfm.errors import CheckpointError

if TYPE_CHECKING:
    from pyro_lfm.inference import Fit
    from pyro_lfm.inference.task import Inference

# Seconds between two writes of a checkpoint.
_SECONDS = 20.0
# What is said, and the exit status, after a signal.
_GO_ON = "the work is kept; to go on: "
_STATUS = {"SIGINT": 130, "SIGTERM": 143}


def fit(
    config: ConfigFile,
    data: DataOption = None,
    out: Annotated[
        Path | None, typer.Option(metavar="RUN", help="The folder of the run; runs/CONFIG by default.")
    ] = None,
    settings: Settings = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=LARGEST_SEED, help="Of first weights, order of rows and noise; 0 by default."
        ),
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Rows whose bound is measured after each epoch.")
    ] = None,
    device: Annotated[
        str, typer.Option(help='Such as cpu or cuda:0; "auto" is a GPU where there is one.')
    ] = "auto",
    processes: Annotated[
        int,
        typer.Option(
            min=1, help="Processes of this machine that share every batch; torchrun for several machines."
        ),
    ] = 1,
    force: Force = False,
    parts: PartsFile = None,
    as_json: AsJson = False,
) -> None:
    """Fit a declaration to its rows. The folder keeps the work while it runs: Ctrl-C loses nothing, --resume goes on.

    To fit longer: --resume --set inference.epochs=40. On a terminal a bar shows the progress; RUN/fit.log has a line a
    minute.
    """
    from pyro_lfm.storage.folder import Folder

    run = out if out is not None else Path("runs") / config.stem
    chosen = read_configuration(config, data, settings or (), parts_of(parts))
    # A file that says no inference is refused before its rows are read.
    inference = type(chosen.inference).__name__
    follows = is_follower()
    if not follows:
        check_folder(run, resume, force)
        if resume:
            check_resumable(run, inference)
    rows = chosen.rows()
    held_out = None if validation is None else chosen.rows_in(validation)
    options = FitOptions(run, resume, seed, device)
    if follows:
        _follow(chosen, rows, held_out, options)
        return
    notes = Notes.of(run) if resume else Notes()
    notes.config, notes.data = str(config.absolute()), str(chosen.data_path.absolute())
    notes.settings = list(settings or ())
    again = _command(config, data, out, settings, seed, validation, parts, processes)
    started = time.monotonic()
    try:
        with warnings_as_lines() as warnings, taken(run, force):
            if not resume:  # at once, for a report of a run that is killed
                Folder(run, "run").commit({NOTES: notes.text()})
            with followers(processes, _follower(again, run, device, resume)):
                result = _fitted(chosen, rows, held_out, options)
    except KeyboardInterrupt:
        say(_GO_ON + again if holds_fit(run) else "interrupted before there was anything to keep")
        raise
    notes.seconds += time.monotonic() - started
    notes.warnings += [text for text in warnings if text not in notes.warnings]
    Folder(run, "run").commit({NOTES: notes.text()})
    show(_outcome(result, run, notes), _text(result, run, notes), as_json)
    if result.interrupted:
        say(_GO_ON + again)
        raise typer.Exit(_STATUS[result.interrupted])


@dataclass(frozen=True)
class FitOptions:
    """How a fit runs, beside its declaration and rows. Without ``resume`` the seed is 0 by default."""

    run: Path
    resume: bool
    seed: int | None
    device: str


def _fitted(chosen: Configuration, rows: Any, held_out: Any, options: FitOptions) -> Fit:
    """Fits the declaration, in the folder of the run.

    Raises:
        CheckpointError: the run in the folder is another one, or has ended.
    """
    import pyro_lfm as lfm

    run = options.run
    before = len(lfm.load(run).history) if options.resume and holds_fit(run) else 0
    with TrainingLog(run / LOG, _plan(chosen.inference)) as log:
        done = _fit(chosen, rows, held_out, options, [log])
        if not isinstance(chosen.inference, lfm.SVI):
            done.save(run)
    if options.resume and len(done.history) == before and not done.interrupted:
        raise CheckpointError(
            f"the run {run} has ended, after {_length(done)}: there is nothing left to do. To train longer, add "
            "--set inference.epochs= with a larger number"
        )
    return done


def _follow(chosen: Configuration, rows: Any, held_out: Any, options: FitOptions) -> None:
    """Computes a share of the fit of another process, which writes and shows.

    Raises:
        typer.Exit: a signal has ended the fit.
    """
    done = _fit(chosen, rows, held_out, options, [])
    if done.interrupted:
        raise typer.Exit(_STATUS[done.interrupted])


def _fit(
    chosen: Configuration, rows: Any, held_out: Any, options: FitOptions, callbacks: list[TrainingLog]
) -> Fit:
    import pyro_lfm as lfm

    # Exact inferences keep no state: their result is saved at the end.
    keeps_state = isinstance(chosen.inference, lfm.SVI)
    return lfm.fit(
        chosen.model,
        rows,
        chosen.inference,
        validation=held_out,
        seed=0 if options.seed is None and not options.resume else options.seed,
        callbacks=callbacks,
        progress=sys.stderr.isatty(),
        device=options.device,
        checkpoint=lfm.Checkpoint(options.run, epochs=None, seconds=_SECONDS) if keeps_state else None,
    )


def _plan(inference: Inference) -> str:
    """How long a training is to be, in words."""
    for name in ("epochs", "steps", "iterations"):
        if amount := getattr(inference, name, None):
            return f"{type(inference).__name__}, {amount} {name}"
    return type(inference).__name__


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
    processes: int,
) -> str:
    """The call that goes on with a run."""
    words = ["pyro-lfm", "fit", str(config)]
    for name, value in (
        ("data", data),
        ("out", out),
        ("seed", seed),
        ("validation", validation),
        ("parts", parts),
        ("processes", processes if processes > 1 else None),
    ):
        words += [] if value is None else [f"--{name}", str(value)]
    for setting in settings or ():
        words += ["--set", setting]
    return shlex.join([*words, "--resume"])


def _follower(again: str, run: Path, device: str, resume: bool) -> list[str]:
    """The arguments of the program for a process that follows, given the call that goes on with the run."""
    words = [*shlex.split(again)[1:], "--out", str(run), "--device", device]
    return words if resume else [word for word in words if word != "--resume"]
