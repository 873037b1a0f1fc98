"""The file of ``fit(checkpoint=)``: the whole state after an epoch, and the identity of the fit that it belongs to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, cast

import torch

from pyro_lfm.errors import CheckpointError, DataError, DeclarationError
from pyro_lfm.identity import differences, identity_of
from pyro_lfm.inference.svi.module_attributes import ModuleStates
from pyro_lfm.inference.svi.optimizer_states import EngineState
from pyro_lfm.inference.svi.snapshots import BestState
from pyro_lfm.programs.program import Program
from pyro_lfm.storage.files import read, write

_ANEW = "give another path, or remove it to begin anew"


class SavedFit(TypedDict):
    """What the file holds.

    Attributes:
        made_of: the identity of the fit, {path: words or digest}; moved: the paths whose values training has changed.
        model, guide: the state of each program; frozen, hidden, unsaved_buffers: by program, what its state leaves out.
        stateful: the states of objective and schedule, by path.
        stream, device_stream, shuffle: the states of random streams.
        held_out_tables: the PerRow parameters of the validation rows.
    """

    made_of: dict[str, str]
    moved: list[str]
    patience: int | None
    best: BestState
    model: dict[str, Any]
    guide: dict[str, Any]
    frozen: dict[str, list[str]]
    hidden: dict[str, ModuleStates]
    unsaved_buffers: dict[str, dict[str, torch.Tensor]]
    stateful: dict[str, Any]
    engine: EngineState
    stream: torch.Tensor
    device_stream: torch.Tensor | None
    shuffle: torch.Tensor
    held_out_tables: list[torch.Tensor] | None
    step: int
    epoch: int
    history: list[dict[str, Any]]


class Checkpoint:
    """The file behind ``fit(..., checkpoint=path)``. An interrupted write leaves the old file whole."""

    def __init__(self, path: str | os.PathLike[str]):
        if not isinstance(path, str | os.PathLike):
            raise DeclarationError(f"checkpoint must be a path; got {path!r}")
        self.path = Path(path)

    def save(self, state: SavedFit) -> None:
        write(self.path, state, "checkpoint")

    def load(self) -> SavedFit | None:
        """The content of the file; None where there is no file yet."""
        if not self.path.exists():
            return None
        saved = read(self.path, "checkpoint", "remove it to begin anew")
        if missing := {"model", "guide", "engine", "made_of", "history"} - saved.keys():
            raise DataError(
                f"checkpoint {self.path} cannot be read: it is no checkpoint of this version (without "
                f"{', '.join(sorted(missing))}); {_ANEW}"
            )
        return cast(SavedFit, saved)

    def seed(self) -> int | None:
        """The seed of the saved fit; None where there is no file yet."""
        saved = self.load()
        return None if saved is None else int(saved["made_of"]["seed"])

    def check_shapes(self, saved: SavedFit, model: Program, guide: Program) -> None:
        """Refuses the states of programs with other parameters, before anything is changed.

        Raises:
            CheckpointError: the message names the first difference.
        """
        states = {"model": (model, saved["model"]), "guide": (guide, saved["guide"])}
        for kind, (program, state) in states.items():
            here, there = _shapes(program.state_dict()), _shapes(state)
            if here != there:
                name = differences(here, there)[0]
                raise self.refused(
                    f"another {kind}: its {name} has {there.get(name, 'no shape there')}, here it has "
                    f"{here.get(name, 'none')}"
                )

    def check(self, saved: SavedFit, made_of: Mapping[str, str]) -> None:
        """Refuses a fit of another identity, apart from values that training itself has changed.

        Raises:
            CheckpointError: the message names the first difference.
        """
        before = saved["made_of"]
        if differ := [path for path in differences(before, made_of) if path not in saved["moved"]]:
            path = differ[0]
            more = f", and {len(differ) - 1} more" * (len(differ) > 1)
            raise self.refused(
                f"another fit: {path} was {before.get(path, 'not there')}, now it is "
                f"{made_of.get(path, 'not there')}{more}{_EXPLANATIONS.get(path, '')}"
            )

    def refused(self, owner: str) -> CheckpointError:
        return CheckpointError(f"checkpoint {self.path} belongs to {owner}; {_ANEW}")


# The parts of a fit, beside its programs, that may have a state of their own.
_STATEFUL = ("objective", "schedule")
# Why a difference at a path matters.
_EXPLANATIONS = {
    "steps": (
        " (a schedule is a function of the fraction done, so that the steps done belong to a fit of that length: to go "
        "on from here, fit the fitted model again, with a schedule and a checkpoint of its own)"
    ),
    "patience": " (the best weights of the epochs done were not kept)",
}


class FitIdentity:
    """The identity of a fit at its start, and the paths of the values that training changes.

    Args:
        fixed: the identity of what training does not change: arguments and digests of rows.
        parts: model, guide, objective and schedule, which training may change.
    """

    def __init__(self, fixed: Mapping[str, str], parts: Mapping[str, object]):
        self.parts = dict(parts)
        self.start = dict(fixed)
        self.inner = self._now()
        self.moved: set[str] = set()

    def _now(self) -> dict[str, str]:
        identity = identity_of(weights=False, **self.parts)
        # An objective of Pyro sets it at its first step.
        identity.pop("objective.max_plate_nesting", None)
        return identity

    @property
    def made_of(self) -> dict[str, str]:
        return {**self.start, **self.inner}

    def stateful(self) -> dict[str, Any]:
        """The parts of objective and schedule with ``state_dict`` and ``load_state_dict``, by path."""
        return {
            path: part for name in _STATEFUL for path, part in stateful(self.parts.get(name), name).items()
        }

    def record_changes(self) -> None:
        """Adds the paths of what has changed since the start: buffers, attributes that callbacks set.

        Raises:
            DeclarationError: an objective or a schedule with a state that a checkpoint does not hold.
        """
        self.moved.update(differences(self.inner, self._now()))
        held = tuple(self.stateful())
        for path in sorted(self.moved):
            if (name := path.split(".")[0]) in _STATEFUL and not path.startswith(held or "-"):
                raise DeclarationError(
                    f"the {name} changes as it is used ({path}), and a checkpoint does not hold what it has become: give "
                    "its class state_dict() and load_state_dict(), or leave checkpoint= out"
                )


def stateful(part: object, path: str, depth: int = 2) -> dict[str, Any]:
    """The parts of an objective or schedule, itself included, with ``state_dict`` and ``load_state_dict``, by path."""
    if isinstance(part, type):
        return {}
    if callable(getattr(part, "state_dict", None)) and callable(getattr(part, "load_state_dict", None)):
        return {path: part}
    parts: dict[str, Any] = {}
    for name, value in getattr(part, "__dict__", {}).items() if depth else ():
        entries = value if isinstance(value, dict) else {"": value}
        for key, entry in entries.items():
            parts |= stateful(entry, ".".join(filter(None, (path, name, str(key)))), depth - 1)
    return parts


def _shapes(state: Mapping[str, object]) -> dict[str, str]:
    """The shape of each tensor of a state, in words, and the type of anything else."""
    return {
        name: f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
        for name, value in state.items()
    }
