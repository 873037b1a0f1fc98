"""The numbers of a record of a history, and the paths that callbacks write to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import SupportsFloat

from pyro_lfm.errors import DeclarationError
from pyro_lfm.inference.fitted import Record


def numbers_of(record: Record) -> dict[str, float]:
    """The entries of a record that are one number.

    >>> numbers_of({"epoch": 1, "step": "E", "bound": -2.5})
    {'epoch': 1, 'bound': -2.5}
    """
    return {name: number for name, value in record.items() if (number := _number(value)) is not None}


def _number(value: object) -> float | None:
    """A number as an int or a float; None for another value."""
    if isinstance(value, bool) or not isinstance(value, SupportsFloat):
        return None
    try:
        return value if isinstance(value, int) else float(value)
    except (TypeError, ValueError, RuntimeError):  # a tensor of several numbers
        return None


def place_of(kind: str, path: str | os.PathLike[str]) -> Path:
    """The path of a callback.

    Raises:
        DeclarationError: it is no path.
    """
    if not isinstance(path, str | os.PathLike):
        raise DeclarationError(f"lfm.callbacks.{kind} takes a path; got {path!r}")
    return Path(path)
