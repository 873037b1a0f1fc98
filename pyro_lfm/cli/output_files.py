"""Files that commands write: under a temporary name first, so that a file is whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from pyro_lfm.errors import DataError

Force: TypeAlias = Annotated[bool, typer.Option("--force", help="Replace what is there already.")]


def check_output(path: Path, force: bool, endings: tuple[str, ...] = ()) -> None:
    """Raises DataError where a file cannot be written: before a long computation, and not after it.

    Args:
        endings: those that the name of the file may have.
    """
    if endings and path.suffix.lower() not in endings:
        got = f"ending {path.suffix}" if path.suffix else "no ending"
        raise DataError(f"--out must end in {', '.join(endings)}; got {str(path)!r}, with {got}")
    if path.is_dir():
        raise DataError(f"--out must be a file; {path} is a folder: name a file in it")
    if not path.parent.is_dir():
        raise DataError(
            f"--out is {path}, and there is no folder {path.parent}: make it, or name another one"
        )
    if path.exists() and not force:
        raise DataError(
            f"--out is {path}, which is there already: name another file, or replace it by --force"
        )
    if not os.access(path.parent, os.W_OK):
        raise DataError(
            f"--out is {path}, and the folder {path.parent} is closed to writing: name another one"
        )


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A context that gives a temporary name with the same ending, which becomes the file when the context ends well.

    Raises:
        DataError: the file cannot be written. What was there before stays.
    """
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield beside
        os.replace(beside, path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}; nothing was changed") from None
    finally:
        with suppress(OSError):
            beside.unlink()
