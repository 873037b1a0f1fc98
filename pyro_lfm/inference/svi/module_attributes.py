"""What programs hold beside parameters and buffers, and change as they run or as callbacks like: kept with a checkpoint."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from pyro_lfm.errors import DeclarationError
from pyro_lfm.programs.program import Program

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_CONTAINERS = {"list": list, "tuple": tuple, "set": set}


def state_of(kind: str, program: Program, moved: Iterable[str]) -> dict[str, Any]:
    """The modes of a program's modules, and those of its attributes that have changed since the fit began.

    Args:
        kind: "model" or "guide". moved: the paths of what has changed, ``kind`` in front.

    Raises:
        DeclarationError: what has changed is nothing that a checkpoint can hold.
    """
    modules = dict(program.named_modules())
    tensors = {name for name, _ in (*program.named_parameters(), *program.named_buffers())}
    held: dict[str, Any] = {}
    for path in sorted(moved):
        name = path.removeprefix(f"{kind}.")
        if name == path or name in tensors:
            continue
        place = _place(modules, name)
        if place is None or (value := _written(getattr(modules[place[0]], place[1]))) is None:
            raise DeclarationError(
                f"the {kind} changes as it is used ({path}), and a checkpoint does not hold what it has become: keep it in "
                "a buffer, or in an attribute of a module, as a number, string, tensor, array, generator of random numbers, "
                "or list or dict of these; or leave checkpoint= out"
            )
        held[".".join(filter(None, place))] = value
    return {"modes": {name: module.training for name, module in modules.items()}, "attributes": held}


def restore(program: Program, state: dict[str, Any]) -> None:
    """Puts back what ``state_of`` has taken."""
    modules = dict(program.named_modules())
    for name, mode in state["modes"].items():
        if name in modules:
            modules[name].training = mode
    for path, value in state["attributes"].items():
        owner, _, name = path.rpartition(".")
        if owner in modules:
            now = getattr(modules[owner], name, None)
            setattr(modules[owner], name, _read(value, now))


def _place(modules: dict[str, nn.Module], path: str) -> tuple[str, str] | None:
    """The module that holds what has changed, and the name of the attribute under which it does."""
    parts = path.split(".")
    for k in range(len(parts) - 1, -1, -1):
        owner = ".".join(parts[:k])
        if owner in modules:
            return (owner, parts[k]) if parts[k] in vars(modules[owner]) else None
    return None


def _written(value: Any) -> tuple[str, Any] | None:
    """A value as a file can hold it, with its kind; None where it cannot, or would come back as another."""
    if type(value) in _PLAIN:
        return "plain", value
    if type(value) in (torch.Tensor, nn.Parameter):
        return "tensor", value.detach().clone()
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
        return ("array" if isinstance(value, np.ndarray) else "number"), torch.as_tensor(np.array(value))
    if isinstance(value, torch.Generator):
        return "torch.Generator", value.get_state()
    if type(value) is random.Random:
        return "random.Random", value.getstate()
    if isinstance(value, np.random.Generator):
        return "numpy.Generator", {**value.bit_generator.state}
    if type(value) is dict and all(type(key) in _PLAIN for key in value):
        entries = {key: _written(entry) for key, entry in value.items()}
        return None if None in entries.values() else ("dict", entries)
    if type(value) in _CONTAINERS.values():
        written = [_written(entry) for entry in value]
        return None if None in written else (type(value).__name__, written)
    return None


def _read(written: tuple[str, Any], now: Any) -> Any:
    """The value again; generators of random numbers are those that stand there now, put where they were."""
    kind, value = written
    if kind == "tensor":
        return value.to(now.device) if isinstance(now, torch.Tensor) else value
    if kind in ("array", "number"):
        return value.numpy() if kind == "array" else value.numpy()[()]
    if kind == "torch.Generator":
        now.set_state(value)
        return now
    if kind == "random.Random":
        now.setstate(value)
        return now
    if kind == "numpy.Generator":
        now.bit_generator.state = value
        return now
    if kind == "dict":
        entries = now if isinstance(now, dict) else {}
        return {key: _read(entry, entries.get(key)) for key, entry in value.items()}
    if kind in _CONTAINERS:
        there = list(now) if isinstance(now, list | tuple) else []
        there += [None] * (len(value) - len(there))
        return _CONTAINERS[kind](_read(entry, old) for entry, old in zip(value, there, strict=False))
    return value
