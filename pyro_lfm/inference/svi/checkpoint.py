"""A fit that can be taken up again: its whole state after every epoch in one file, with what the fit was made of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pyro_lfm.documents.identity import differences, identity_of
from pyro_lfm.documents.storage import read, write
from pyro_lfm.errors import CheckpointError, DataError, DeclarationError
from pyro_lfm.programs.program import Program

_ANEW = "give another path, or remove it to begin anew"


class Checkpoint:
    """The file behind ``fit(..., checkpoint=path)``.

    It is written beside its place and moved there, so that an interruption leaves the old or the new one, whole.
    """

    def __init__(self, path: str | os.PathLike[str]):
        if not isinstance(path, str | os.PathLike):
            raise DeclarationError(f"checkpoint must be a path; got {path!r}")
        self.path = Path(path)

    def save(self, state: Mapping[str, Any]) -> None:
        write(self.path, state, "checkpoint")

    def load(self) -> dict[str, Any] | None:
        """What was kept, or None where there is no file yet."""
        if not self.path.exists():
            return None
        saved = read(self.path, "checkpoint", "remove it to begin anew")
        if missing := {"model", "guide", "engine", "made_of", "history"} - saved.keys():
            raise DataError(
                f"checkpoint {self.path} cannot be read: it is no checkpoint of this version (without "
                f"{', '.join(sorted(missing))}); {_ANEW}"
            )
        return saved

    def seed(self) -> int | None:
        """The seed of the fit that is kept."""
        saved = self.load()
        return None if saved is None else int(saved["made_of"]["seed"])

    def check_shapes(self, saved: Mapping[str, Any], programs: Mapping[str, Program]) -> None:
        """Refuses the state of programs with other parameters, before anything is changed."""
        for kind, program in programs.items():
            here, kept = _shapes(program.state_dict()), _shapes(saved[kind])
            if here != kept:
                name = differences(here, kept)[0]
                raise self.refused(
                    f"another {kind}: its {name} has {kept.get(name, 'no shape there')}, here it has "
                    f"{here.get(name, 'none')}"
                )

    def check(self, saved: Mapping[str, Any], made_of: Mapping[str, str]) -> None:
        """Refuses what was made of something else, but for what the training itself had changed."""
        kept = saved["made_of"]
        if differ := [path for path in differences(kept, made_of) if path not in saved["moved"]]:
            path = differ[0]
            more = f", and {len(differ) - 1} more" * (len(differ) > 1)
            raise self.refused(
                f"another fit: {path} was {kept.get(path, 'not there')}, now it is {made_of.get(path, 'not there')}{more}"
                + _WHY.get(path, "")
            )

    def refused(self, words: str) -> CheckpointError:
        return CheckpointError(f"checkpoint {self.path} belongs to {words}; {_ANEW}")


# What a fit uses beside its programs, and what may have a state of its own.
_USED = ("objective", "schedule")
# What more is to be said of a difference.
_WHY = {
    "steps": (
        " (a schedule is a function of the fraction done, so that the steps done were those of a fit of that length: to go "
        "on from here, fit the fitted model again, with a schedule and a checkpoint of its own)"
    ),
    "patience": " (the best weights of the epochs done were not kept)",
}


class Journal:
    """What a fit is made of, at its start and as it goes on.

    Args:
        fixed: what was told, by name: arguments, digests of rows.
        parts: model, guide, objective and schedule, which training may change.
    """

    def __init__(self, fixed: Mapping[str, Any], parts: Mapping[str, Any]):
        self.parts = dict(parts)
        self.start = identity_of(weights=False, **fixed)
        self.inner = self._now()
        self.moved: set[str] = set()

    def _now(self) -> dict[str, str]:
        found = identity_of(weights=False, **self.parts)
        # Which an objective of Pyro's finds out at its first step.
        found.pop("objective.max_plate_nesting", None)
        return found

    @property
    def made_of(self) -> dict[str, str]:
        return {**self.start, **self.inner}

    def stateful(self) -> dict[str, Any]:
        """The parts of objective and schedule that have a state of their own to be carried over, by path."""
        return {path: part for name in _USED for path, part in stateful(self.parts.get(name), name).items()}

    def look(self) -> None:
        """Notes what has changed since the start: buffers, what callbacks set.

        Raises:
            DeclarationError: an objective or a schedule with a state that a checkpoint does not hold.
        """
        self.moved.update(differences(self.inner, self._now()))
        held = tuple(self.stateful())
        for path in sorted(self.moved):
            if (name := path.split(".")[0]) in _USED and not path.startswith(held or "-"):
                raise DeclarationError(
                    f"the {name} changes as it is used ({path}), and a checkpoint does not hold what it has become: give "
                    "its class state_dict() and load_state_dict(), or leave checkpoint= out"
                )


def stateful(part: Any, path: str, depth: int = 2) -> dict[str, Any]:
    """The parts of an objective or schedule that have a state to be carried over, itself among them, by path."""
    if isinstance(part, type):
        return {}
    if callable(getattr(part, "state_dict", None)) and callable(getattr(part, "load_state_dict", None)):
        return {path: part}
    found: dict[str, Any] = {}
    for name, value in getattr(part, "__dict__", {}).items() if depth else ():
        entries = value if isinstance(value, dict) else {"": value}
        for key, entry in entries.items():
            found |= stateful(entry, ".".join(filter(None, (path, name, str(key)))), depth - 1)
    return found


def _shapes(state: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
        for name, value in state.items()
    }
