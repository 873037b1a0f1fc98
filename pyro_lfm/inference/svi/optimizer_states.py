"""States of optimizers by the names of their parameters, so that one engine can go on from another's checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import torch
from torch.optim.optimizer import StateDict

from pyro_lfm.errors import CheckpointError
from pyro_lfm.programs.program import Program

# Options of a group that an optimizer keeps of its own: how it computes, and its rate, which the engine sets.
_OWN = {"params", "lr", "fused", "foreach", "capturable", "differentiable"}


class OptimizerState(TypedDict):
    """The state of one optimizer."""

    names: list[str]
    state: StateDict


class StepState(TypedDict):
    """What a checkpoint keeps of the step of one batch size, part and set of trained parameters, as the key says.

    ``given_up``: it is done in eager for good. ``recorded``: it is done by native code. ``settled``: it is, or will be from
    the next time on. ``runs``: how often it was watched; None where it has settled once.
    """

    key: tuple[int, str, int]
    given_up: bool
    settled: bool
    recorded: bool
    runs: int | None
    compared_at: int
    rebuilt: int
    recordings: int


class NativeState(TypedDict):
    """What a checkpoint keeps of native code, so that the same steps are done by it as without an interruption.

    ``compilers``, by name, ``sizes`` and ``after`` are the arguments of ``Compiled``, ``number`` counts steps,
    ``choices`` are the sets of trained parameters in their order.
    """

    compilers: list[str]
    sizes: list[int]
    after: int
    number: int
    choices: list[tuple[bool, ...]]
    steps: list[StepState]


class EngineState(TypedDict):
    """What a checkpoint keeps of an engine.

    ``gradients`` says in words which gradients its optimizers take, ``native`` stands there for the compiled engine alone,
    and ``store`` holds the entries of Pyro's parameter store.
    """

    gradients: str
    optimizers: list[OptimizerState]
    native: NotRequired[NativeState]
    store: NotRequired[dict[str, torch.Tensor]]


def names_of(programs: Sequence[Program]) -> dict[int, str]:
    """The name of every parameter, by its id; a parameter of both programs has its name in the model."""
    names: dict[int, str] = {}
    for kind, program in zip(("model", "guide"), programs, strict=True):
        for name, parameter in program.named_parameters():
            names.setdefault(id(parameter), f"{kind}.{name}")
    return names


def states_of(
    optimizers: Sequence[torch.optim.Optimizer], names: Mapping[int, str], gradients: str
) -> EngineState:
    """The states of some optimizers.

    Args:
        names: see ``names_of``.
        gradients: which gradients the optimizers take, in words: moments of gradients of another loss differ in size.
    """
    return {
        "gradients": gradients,
        "optimizers": [
            {"names": _moved(optimizer, names), "state": optimizer.state_dict()} for optimizer in optimizers
        ],
    }


def load_states(
    optimizers: Sequence[torch.optim.Optimizer],
    names: Mapping[int, str],
    gradients: str,
    saved: EngineState,
) -> None:
    """Gives optimizers the saved states of their parameters, in whatever order these stand.

    Raises:
        CheckpointError: the saved optimizers took other gradients.
    """
    if saved["gradients"] != gradients:
        raise CheckpointError(
            f"the fit of the checkpoint was begun by an engine with optimizers that take {saved['gradients']}, and those of "
            f"this engine take {gradients}, so that their moments differ in size: resume with the engine that began the fit "
            '("auto", "compiled" and "eager" can take each other\'s place, "pyro" cannot)'
        )
    kept = saved["optimizers"]
    if [entry["names"] for entry in kept] == [_moved(optimizer, names) for optimizer in optimizers]:
        for optimizer, entry in zip(optimizers, kept, strict=True):
            optimizer.load_state_dict(entry["state"])
        return
    by_name = {name: part for entry in kept for name, part in _by_name(entry).items()}
    for optimizer in optimizers:
        here = optimizer.state_dict()
        moved = _moved(optimizer, names)
        for k, name in enumerate(moved):
            if name not in by_name:
                continue
            state, options = by_name[name]
            if state:
                here["state"][k] = state
        for group in here["param_groups"]:
            options = next((by_name[moved[k]][1] for k in group["params"] if moved[k] in by_name), {})
            group.update({option: value for option, value in options.items() if option not in _OWN})
        optimizer.load_state_dict(here)


def _moved(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> list[str]:
    return [names.get(id(p), "?") for group in optimizer.param_groups for p in group["params"]]


def _by_name(entry: OptimizerState) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """The state of each parameter, and the options of its group."""
    state = entry["state"]
    return {
        entry["names"][k]: (state["state"].get(k, {}), group)
        for group in state["param_groups"]
        for k in group["params"]
    }
