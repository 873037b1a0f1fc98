"""Attributes of modules, beside parameters and buffers, that training or callbacks change, as a checkpoint keeps them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypedDict

import numpy as np
import torch
from torch import nn

from pyro_lfm.errors import DeclarationError
from pyro_lfm.programs.program import Program

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_CONTAINERS = {"list": list, "tuple": tuple, "set": set}


# The functions that put a random generator of each kind into a state.
_SET_STATE: dict[str, Callable[[Any, Any], None]] = {
    "torch.Generator": lambda generator, state: generator.set_state(state),
    "random.Random": lambda generator, state: generator.setstate(state),
    "numpy.Generator": lambda generator, state: setattr(generator.bit_generator, "state", state),
}

# A value as a file can hold it, after the name of its kind.
Written: TypeAlias = tuple[str, Any]


class ModuleStates(TypedDict):
    """What a checkpoint keeps of a program's modules: whether each trains, by name, and changed attributes by path."""

    modes: dict[str, bool]
    attributes: dict[str, Written]


def module_states(kind: str, program: Program, moved: Iterable[str]) -> ModuleStates:
    """The modes of a program's modules, and those of its attributes that have changed since the fit began.

    Args:
        kind: "model" or "guide".
        moved: the paths of changed values, ``kind`` in front.

    Raises:
        DeclarationError: a changed attribute that a checkpoint cannot hold.
    """
    modules = dict(program.named_modules())
    tensors = {name for name, _ in (*program.named_parameters(), *program.named_buffers())}
    attributes: dict[str, Written] = {}
    for path in sorted(moved):
        name = path.removeprefix(f"{kind}.")
        if name == path or name in tensors:
            continue
        place = _place(modules, name)
        if place is None or (value := _written(getattr(modules[place[0]], place[1]))) is None:
            raise DeclarationError(
                f"the {kind} changes while it is used ({path}), and a checkpoint does not hold its new state: keep it in "
                "a buffer, or in an attribute of a module, as a number, string, tensor, array, random generator, or list "
                "or dict of these; or leave checkpoint= out"
            )
        attributes[".".join(filter(None, place))] = value
    return {"modes": {name: module.training for name, module in modules.items()}, "attributes": attributes}


def restore_modules(program: Program, state: ModuleStates) -> None:
    """Puts back the modes and attributes that ``module_states`` took."""
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
    """The module that holds a changed value, and the name of the attribute that leads to it."""
    parts = path.split(".")
    for k in range(len(parts) - 1, -1, -1):
        owner = ".".join(parts[:k])
        if owner in modules:
            return (owner, parts[k]) if parts[k] in vars(modules[owner]) else None
    return None


def _written(value: object) -> Written | None:
    """A value as a file can hold it, with its kind; None where it would not come back the same."""
    if type(value) in _PLAIN:
        return "plain", value
    if isinstance(value, torch.Tensor) and type(value) in (torch.Tensor, nn.Parameter):
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
    if isinstance(value, list | tuple | set) and type(value) in _CONTAINERS.values():
        written = [_written(entry) for entry in value]
        return None if None in written else (type(value).__name__, written)
    return None


def _read(written: Written, now: object) -> Any:
    """The value of ``written``. A random generator is the one that stands there now, with the saved state."""
    kind, value = written
    if kind in _SET_STATE:
        _SET_STATE[kind](now, value)
        return now
    if kind == "tensor":
        return value.to(now.device) if isinstance(now, torch.Tensor) else value
    if kind in ("array", "number"):
        return value.numpy() if kind == "array" else value.numpy()[()]
    if kind == "dict":
        entries = now if isinstance(now, dict) else {}
        return {key: _read(entry, entries.get(key)) for key, entry in value.items()}
    if kind in _CONTAINERS:
        old = list(now) if isinstance(now, list | tuple) else []
        old += [None] * (len(value) - len(old))
        return _CONTAINERS[kind](_read(entry, each) for entry, each in zip(value, old, strict=False))
    return value
