"""Files that commands write: what is checked before a long computation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from pyro_lfm.errors import DataError

Force: TypeAlias = Annotated[bool, typer.Option("--force", help="Replace what is there already.")]


def check_output(path: Path, force: bool, endings: tuple[str, ...] = (), option: str = "--out") -> None:
    """Raises DataError where a file cannot be written: before a long computation, and not after it.

    Args:
        endings: those that the name of the file may have.
        option: the one that names the file, for messages.
    """
    if endings and path.suffix.lower() not in endings:
        got = f"ending {path.suffix}" if path.suffix else "no ending"
        raise DataError(f"{option} must end in {', '.join(endings)}; got {str(path)!r}, with {got}")
    if path.is_dir():
        raise DataError(f"{option} must be a file; {path} is a folder: name a file in it")
    if not path.parent.is_dir():
        raise DataError(
            f"{option} is {path}, and there is no folder {path.parent}: make it, or name another one"
        )
    if path.exists() and not force:
        raise DataError(
            f"{option} is {path}, which is there already: name another file, or replace it by --force"
        )
    if not os.access(path.parent, os.W_OK):
        raise DataError(
            f"{option} is {path}, and the folder {path.parent} is closed to writing: name another one"
        )
