"""States of optimizers by the names of what they move, so that one engine goes on where another stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pyro_lfm.errors import CheckpointError
from pyro_lfm.programs import Program

# Options of a group that belong to the optimizer at hand: how it computes, and its rate, which the engine sets.
_OWN = {"params", "lr", "fused", "foreach", "capturable", "differentiable"}


def names_of(programs: Sequence[Program]) -> dict[int, str]:
    """The name of every parameter, by its id; what both programs hold is named once."""
    found: dict[int, str] = {}
    for kind, program in zip(("model", "guide"), programs, strict=True):
        for name, parameter in program.named_parameters():
            found.setdefault(id(parameter), f"{kind}.{name}")
    return found


def states(optimizers: Sequence[torch.optim.Optimizer], names: Mapping[int, str]) -> dict[str, Any]:
    """What is kept of some optimizers."""
    return {
        "optimizers": [
            {"names": _moved(optimizer, names), "state": optimizer.state_dict()} for optimizer in optimizers
        ]
    }


def take_up(
    optimizers: Sequence[torch.optim.Optimizer], names: Mapping[int, str], saved: Mapping[str, Any]
) -> None:
    """Gives optimizers the states that were kept, of the same ones or of others that move the same parameters.

    Raises:
        CheckpointError: a state that is no parameter's own, or of another kind of optimizer.
    """
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
                _check_kind(optimizer, name, options, here)
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


def _check_kind(
    optimizer: torch.optim.Optimizer, name: str, options: Mapping[str, Any], here: Mapping[str, Any]
) -> None:
    """The state is one of this kind of optimizer: its groups have the same options."""
    group = here["param_groups"][0]
    if options.keys() - _OWN - {"initial_lr"} != group.keys() - _OWN - {"initial_lr"}:
        raise CheckpointError(
            f"the checkpoint's engine moved {name} by another optimizer than {type(optimizer).__name__}, as engines do with "
            "PerRow tables: go on with the engine with which the fit was begun"
        )
