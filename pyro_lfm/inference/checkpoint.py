"""A fit that can be taken up again: its whole state after every epoch, in one file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from pyro_lfm.errors import DataError


class Checkpoint:
    """The file behind ``fit(..., checkpoint=path)``.

    It is written beside its place and moved there, so an interruption leaves the old or the new one, whole.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)

    def save(self, state: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(self.path.name + ".part")
        torch.save(state, beside)
        os.replace(beside, self.path)

    def load(self) -> dict[str, Any] | None:
        """The state, or None where there is no file yet."""
        if not self.path.exists():
            return None
        try:
            return torch.load(self.path, weights_only=True)
        except Exception as error:  # torch names no type for "not one of my files"
            raise DataError(
                f"checkpoint {self.path} cannot be read: {error}; remove it to begin anew"
            ) from error
