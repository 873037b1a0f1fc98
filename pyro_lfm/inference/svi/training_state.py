"""``TrainingState``, all that a training by SVI needs to go on, and the folder in which a checkpoint keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict, cast

import torch

from pyro_lfm.errors import CheckpointError, DataError
from pyro_lfm.identity import differences
from pyro_lfm.inference.svi.checkpoint import Checkpoint
from pyro_lfm.inference.svi.history_columns import Block
from pyro_lfm.inference.svi.module_attributes import ModuleStates
from pyro_lfm.inference.svi.optimizer_states import EngineState
from pyro_lfm.inference.svi.position import PositionState
from pyro_lfm.inference.svi.snapshots import BestState
from pyro_lfm.programs.program import Program
from pyro_lfm.storage.folder import Folder
from pyro_lfm.storage.states import State, read_outline, read_state, state_files
from pyro_lfm.storage.trees import Tree, value_of

if TYPE_CHECKING:
    from pyro_lfm.storage.folder import Content

_ANEW = "name another folder, or remove this one to begin anew"
# The name of the files of the state.
_STATE = "state"


class TrainingState(TypedDict):
    """What state.json and state.safetensors hold, beside the weights.

    Attributes:
        made_of: the identity of the fit, {path: words or digest}; moved: the paths whose values training has changed.
        frozen, hidden, unsaved_buffers: by program, "model" and "guide", what its state dict leaves out.
        stateful: the states of objective and schedule, by path.
        stream, device_stream, shuffle: the states of random streams.
        held_out_tables: the PerRow parameters of the validation rows.
        total_steps: the number of steps of the whole fit.
        position: the place inside an epoch; None between two epochs.
    """

    made_of: dict[str, str]
    moved: list[str]
    patience: int | None
    best: BestState
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
    total_steps: int
    skipped: dict[str, int]
    position: PositionState | None
    history: list[Block]


_NONE = type(None)
# The types of the values of a TrainingState.
_TYPES: dict[str, type | tuple[type, ...]] = {
    "made_of": dict, "moved": list, "patience": (int, _NONE), "best": dict, "frozen": dict, "hidden": dict,
    "unsaved_buffers": dict, "stateful": dict, "engine": dict, "stream": torch.Tensor,
    "device_stream": (torch.Tensor, _NONE), "shuffle": torch.Tensor, "held_out_tables": (list, _NONE), "step": int,
    "epoch": int, "total_steps": int, "skipped": dict, "position": (dict, _NONE), "history": list,
}  # fmt: skip


class TrainingFolder:
    """The folder of a checkpoint. A write replaces weights and state together, or leaves both.

    Args:
        checkpoint: where it is.
    """

    def __init__(self, checkpoint: Checkpoint):
        self.path = checkpoint.path
        self.folder = Folder(checkpoint.path, "checkpoint")

    def save(
        self,
        programs: Mapping[str, Program],
        saved: TrainingState,
        further: Mapping[str, Content] | None = None,
    ) -> None:
        """Writes a state.

        Args:
            further: more files, by name, that change with it.

        Raises:
            DeclarationError: a value that no file can hold. DataError: the folder cannot be written. In either case the
                state from before stays.
        """
        self.folder.commit({**self.files(programs, saved), **(further or {})})

    def files(self, programs: Mapping[str, Program], saved: TrainingState) -> dict[str, Content]:
        """The files of a state, whose values are checked."""
        states = {kind: program.state_dict() for kind, program in programs.items()}
        return state_files(_STATE, State(states, {**saved}), "checkpoint")

    @property
    def is_there(self) -> bool:
        """Whether a state has been written.

        Raises:
            DataError: the path is a file, or a folder of something else.
        """
        if self.path.exists() and not self.path.is_dir():
            raise DataError(f"checkpoint {self.path} must be a folder; it is a file: name another path")
        if self.folder.has(f"{_STATE}.json"):
            return True
        if self.folder.has("fit.json"):
            raise DataError(
                f"checkpoint {self.path} cannot be read: it holds a fit that was saved, without the state of its "
                "training, and a checkpoint would replace it: name another folder"
            )
        return False

    def load(self) -> tuple[dict[str, dict[str, Any]], TrainingState] | None:
        """The state dicts of model and guide, and the state; None where nothing has been written yet.

        Raises:
            DataError: the folder holds no such state, or not all of it.
        """
        if not self.is_there:
            return None
        try:
            programs, values = read_state(self.folder, _STATE)
        except DataError as error:
            raise DataError(f"{error}; {_ANEW}") from None
        wrong = [n for n, kind in _TYPES.items() if n not in values or not isinstance(values[n], kind)]
        if wrong or programs.keys() != {"model", "guide"}:
            raise self.unreadable(
                f"it is no checkpoint of this version ({', '.join(wrong) or 'its programs'})"
            )
        return programs, cast(TrainingState, values)

    def seed(self) -> int | None:
        """The seed of the saved fit; None where nothing has been written yet."""
        if not self.is_there:
            return None
        try:
            head: Any = read_outline(self.folder, _STATE)
            made_of = value_of(Tree(head["state"]["values"]["made_of"], {}), "made_of")
            return int(made_of["seed"])
        except DataError as error:
            raise DataError(f"{error}; {_ANEW}") from None
        except (KeyError, TypeError, ValueError):
            raise self.unreadable("it is no checkpoint of this version (seed)") from None

    def unreadable(self, why: str) -> DataError:
        return DataError(f"checkpoint {self.path} cannot be read: {why}; {_ANEW}")

    def refused(self, owner: str) -> CheckpointError:
        return CheckpointError(f"checkpoint {self.path} belongs to {owner}; {_ANEW}")

    def check_shapes(
        self, states: Mapping[str, Mapping[str, object]], programs: Mapping[str, Program]
    ) -> None:
        """Refuses the states of programs with other parameters, before anything is changed.

        Raises:
            CheckpointError: the message names the first difference.
        """
        for kind, program in programs.items():
            here, there = _shapes(program.state_dict()), _shapes(states[kind])
            if here != there:
                name = differences(here, there)[0]
                raise self.refused(
                    f"another {kind}: its {name} has {there.get(name, 'no shape there')}, here it has "
                    f"{here.get(name, 'none')}"
                )

    def check(self, saved: TrainingState, made_of: Mapping[str, str]) -> None:
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


# Why a difference at a path matters.
_EXPLANATIONS = {
    "steps": (
        " (a schedule is a function of the fraction done, so that the steps done belong to a fit of that length: to go "
        "on from here, fit the fitted model again, with a schedule and a checkpoint of its own)"
    ),
    "row_order": " (give lfm.SVI the block= and buffer= of then)",
    "patience": " (the best weights of the epochs done were not kept)",
}


def _shapes(state: Mapping[str, object]) -> dict[str, str]:
    """The shape of each tensor of a state, in words, and the type of anything else."""
    return {
        name: f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
        for name, value in state.items()
    }
