"""Files of torch, until checkpoints and comparisons are folders."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pyro_lfm.errors import DataError
from pyro_lfm.storage.plain_values import plain


def write(path: Path, state: Mapping[str, object], what: str) -> None:
    """Writes a file under another name and then moves it to ``path``: an older file stays until the new one is whole.

    Args:
        what: what kind of file it is, for errors, such as "checkpoint".

    Raises:
        DeclarationError: a value that a file cannot hold; no file was changed. DataError: the path cannot be written.
    """
    entries = {name: plain(value, f"{what}: {name}") for name, value in state.items()}
    beside = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(entries, beside)
        os.replace(beside, path)
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or "the disk may be full, or the folder closed to writing"
        raise DataError(f"{what} cannot be written to {path}: {why}; what was there before stays") from error
    finally:
        if beside.exists():
            beside.unlink()


def read(path: Path, what: str, remedy: str) -> dict[str, Any]:
    """The state that ``write`` wrote, on the CPU.

    Args:
        what: what kind of file it is, for errors, such as "checkpoint".
        remedy: what to do about a file that cannot be read, for errors.

    Raises:
        DataError: the path holds no such file, or a part of one.
    """
    if path.is_dir():
        raise DataError(f"{what} {path} must be a file; it is a folder: {remedy}")
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except OSError as error:
        raise DataError(f"{what} {path} cannot be read: {error.strerror or type(error).__name__}") from error
    except Exception as error:  # torch raises errors of several types for a file that it did not write
        size = path.stat().st_size
        raise DataError(
            f"{what} {path} cannot be read: its {size} bytes are not, or no longer, a file that the library wrote; {remedy}"
        ) from error
    if not isinstance(state, dict):
        raise DataError(f"{what} {path} cannot be read: it holds a {type(state).__name__}; {remedy}")
    return state
