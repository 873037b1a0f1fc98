"""A fit that can be taken up again: its whole state after every epoch, in one file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from pyro_lfm.errors import DataError
from pyro_lfm.programs import Program


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

    def load(self, model: Program, guide: Program) -> dict[str, Any] | None:
        """The state of a fit of these programs, or None where there is no file yet."""
        if not self.path.exists():
            return None
        try:
            saved = torch.load(self.path, weights_only=True)
        except Exception as error:  # torch names no type for "not one of my files"
            raise DataError(
                f"checkpoint {self.path} cannot be read: {error}; remove it to begin anew"
            ) from error
        for kind, program in (("model", model), ("guide", guide)):
            held, kept = _shapes(program.state_dict()), _shapes(saved.get(kind, {}))
            if held != kept:
                name = next(n for n in (*held, *kept) if held.get(n) != kept.get(n))
                raise DataError(
                    f"checkpoint {self.path} belongs to another {kind}: its {name} has shape {kept.get(name)}, here it "
                    f"is {held.get(name)}; give another path, or remove it to begin anew"
                )
        return saved


def _shapes(state: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}
