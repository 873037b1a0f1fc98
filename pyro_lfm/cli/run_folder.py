"""The folder of a run, for ``fit``: whether it can take one, and what a call that fails leaves there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyro_lfm.cli.runs import NOTES
from pyro_lfm.errors import CheckpointError, DataError

LOG = "fit.log"
# The files of a fit and of the state of its training, by which a folder is known as a run.
_FIT, _STATE = "fit.json", "state.json"
_OWN = {
    _FIT, "weights.safetensors", "declaration.toml", "history.csv", _STATE, "state.safetensors", NOTES, LOG, "report.html",
    ".next", ".ready",
}  # fmt: skip


def check_folder(run: Path, resume: bool, force: bool) -> None:
    """Raises DataError where a folder cannot take the run."""
    if run.exists() and not run.is_dir():
        raise DataError(f"--out must be a folder; {run} is a file: name another one")
    there = {path.name for path in run.iterdir()} if run.is_dir() else set()
    holds_run = bool(there & {_STATE, _FIT})
    if resume:
        if not holds_run:
            raise DataError(
                f"there is no run in {run} to resume: leave --resume out, or name its folder by --out"
            )
        return
    if holds_run and not force:
        raise DataError(
            f"{run} holds a run already: resume it by --resume, name another folder by --out, or replace it by "
            "--force"
        )
    if others := sorted(there - _OWN):
        raise DataError(f"{run} holds other files, such as {others[0]}: name another folder by --out")


def check_resumable(run: Path, inference: str) -> None:
    """Raises CheckpointError where a run has no state to go on from.

    Args:
        inference: the name of the declared inference.
    """
    if not (run / _STATE).exists() and not (run / ".ready" / _STATE).exists():
        raise CheckpointError(
            f"the run {run} cannot be resumed: it holds no state of a training. {inference} keeps no such state, or the fit "
            "was saved by Python. Leave --resume out, and give --force or another --out"
        )


def holds_fit(run: Path) -> bool:
    """Whether a folder holds a fit, or the state of one."""
    return (run / _FIT).exists() or (run / _STATE).exists()


@contextmanager
def taken(run: Path, force: bool) -> Iterator[None]:
    """A context in which a fit writes to a folder. One that fails before it keeps work leaves what was there before.

    Args:
        force: whether the run in the folder is replaced.

    Raises:
        DataError: the folder cannot be made.
    """
    before = run.with_name(f".{run.name}.{os.getpid()}") if force and run.is_dir() else None
    is_new = not run.exists()
    try:
        if before is not None:
            os.rename(run, before)
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"--out is {run}, which cannot be made: {error.strerror}; name another folder"
        ) from None
    try:
        yield
    except BaseException:
        if not holds_fit(run):
            for name in (LOG, NOTES):
                (run / name).unlink(missing_ok=True)
            if is_new or before is not None:
                with suppress(OSError):
                    run.rmdir()
            if before is not None:
                os.rename(before, run)
        raise
    finally:
        if before is not None:
            shutil.rmtree(before, ignore_errors=True)
