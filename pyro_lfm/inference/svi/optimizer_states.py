"""States of optimizers by the names of what they move, so that one engine goes on where another stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pyro_lfm.errors import CheckpointError
from pyro_lfm.programs.program import Program

# Options of a group that belong to the optimizer at hand: how it computes, and its rate, which the engine sets.
_OWN = {"params", "lr", "fused", "foreach", "capturable", "differentiable"}


def names_of(programs: Sequence[Program]) -> dict[int, str]:
    """The name of every parameter, by its id; what both programs hold is named once."""
    found: dict[int, str] = {}
    for kind, program in zip(("model", "guide"), programs, strict=True):
        for name, parameter in program.named_parameters():
            found.setdefault(id(parameter), f"{kind}.{name}")
    return found


def states(
    optimizers: Sequence[torch.optim.Optimizer], names: Mapping[int, str], gradients: str
) -> dict[str, Any]:
    """What is kept of some optimizers.

    Args:
        gradients: of what the gradients are that they see, in words. Moments of others are of other size.
    """
    return {
        "gradients": gradients,
        "optimizers": [
            {"names": _moved(optimizer, names), "state": optimizer.state_dict()} for optimizer in optimizers
        ],
    }


def take_up(
    optimizers: Sequence[torch.optim.Optimizer],
    names: Mapping[int, str],
    gradients: str,
    saved: Mapping[str, Any],
) -> None:
    """Gives optimizers the states that were kept, of the same parameters, in whatever order they stand.

    Raises:
        CheckpointError: the states are those of other gradients.
    """
    if saved["gradients"] != gradients:
        raise CheckpointError(
            f"the fit that the checkpoint keeps was begun by an engine whose optimizers see {saved['gradients']}; those "
            f"of this engine see {gradients}, so that their moments differ in size: go on with the engine with which it was "
            'begun ("auto", "compiled" and "eager" can take each other\'s place, "pyro" cannot)'
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


def _by_name(entry: Mapping[str, Any]) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Of each parameter its state, and the options of its group."""
    state = entry["state"]
    return {
        entry["names"][k]: (state["state"].get(k, {}), group)
        for group in state["param_groups"]
        for k in group["params"]
    }
