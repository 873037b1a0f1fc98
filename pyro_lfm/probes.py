"""Trial runs that leave nothing behind, by which the library looks at a user's networks, programs and schedules."""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from types import CellType, FunctionType, MethodType, SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from pyro_lfm.runtime import Stream, isolated, others_random_kept

# Any value at all: what a user's program, network or schedule may hold.
PythonValue: TypeAlias = object

# The attributes that nn.Module itself makes. Parameters and buffers are handled apart.
_OWN = frozenset(vars(nn.Module())) - {"training"}
# Packages whose objects are not followed: they are large, or refer to half of the process.
_FOREIGN = frozenset(sys.stdlib_module_names) | {"numpy", "pandas", "pyro", "pyro_lfm", "scipy", "torch"}

# Puts one value back as it was.
Undo = Callable[[], object]


@contextmanager
def evaluating(*programs: nn.Module) -> Iterator[None]:
    """Evaluation mode: no dropout, running statistics held. Afterwards each submodule has its own mode again."""
    modes = [(module, module.training) for program in programs for module in program.modules()]
    try:
        # Not by eval(), which a module may override to do more.
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def probing(
    *parts: nn.Module | Callable[..., PythonValue], device: torch.device | str = "cpu"
) -> Iterator[None]:
    """A trial run of modules, in evaluation mode and without gradients. Afterwards everything is as it was before.

    That holds for modes, values of parameters and buffers, attributes of modules (counters, lists, random generators) and
    the random states of torch, Python and NumPy. A module that makes parameters or submodules in the run has initialised
    itself: then attributes stay as the run left them.

    >>> layer = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout())
    >>> with probing(layer): _ = layer(torch.ones(2, 3))
    >>> int(layer[0].num_batches_tracked), layer[1].training
    (0, True)
    """
    modules = [part for part in parts if isinstance(part, nn.Module)]
    structure = _structure(modules)
    tensors = [_tensor(value) for module in modules for value in _values(module)]
    seen: dict[int, PythonValue] = {}
    attributes = [undo for module in modules for undo in _undos(module, seen)]
    try:
        with isolated(Stream(0, device), device), evaluating(*modules), others_random_kept(), torch.no_grad():
            yield
    finally:
        for undo in tensors:
            undo()
        if _structure(modules) == structure:
            for undo in attributes:
                undo()


@contextmanager
def restoring(function: Callable[..., PythonValue]) -> Iterator[None]:
    """Puts back what a call of a function changes: its attributes, its closure, its globals and random states.

    Raises:
        TypeError: the function holds an iterator, which cannot be put back.

    >>> with restoring(random.random): ahead = random.random()
    >>> random.random() == ahead
    True
    """
    seen: dict[int, PythonValue] = {}
    undos = [*_undos(function, seen), *_undos(vars(type(function)).get("__call__"), seen)]
    if iterators := [value for value in seen.values() if isinstance(value, Iterator)]:
        raise TypeError(f"it takes its values from an iterator ({type(iterators[0]).__name__})")
    try:
        with isolated(Stream(0)), others_random_kept():
            yield
    finally:
        for undo in undos:
            undo()


def _values(module: nn.Module) -> list[torch.Tensor]:
    """Buffers, and parameters too, as some layers change those when they run (``Embedding(max_norm=1.0)``)."""
    tensors = chain(module.parameters(), module.buffers())
    return [value for value in tensors if not nn.parameter.is_lazy(value)]


def _structure(modules: list[nn.Module]) -> list[Any]:
    """The submodules, parameters and buffers of modules by name, with their ids and types."""
    structure: list[Any] = []
    for module in modules:
        structure += [(name, id(part), type(part)) for name, part in module.named_modules()]
        structure += [(name, id(p), type(p)) for name, p in module.named_parameters()]
        structure += [name for name, _ in module.named_buffers()]
    return structure


def _undos(value: PythonValue, seen: dict[int, PythonValue]) -> list[Undo]:
    """The functions that put a value, and all that it holds, back as it is now, each object in place."""
    # ``seen`` holds the values themselves, so that no id is given to another object meanwhile.
    if id(value) in seen:
        return []
    seen[id(value)] = value
    if isinstance(value, nn.Module):
        inner = [undo for child in value.children() for undo in _undos(child, seen)]
        return [*_attributes(value, seen), *inner]
    if isinstance(value, torch.Tensor):
        return [] if isinstance(value, nn.Parameter) else [_tensor(value)]
    if isinstance(value, tuple):
        return [undo for entry in value for undo in _undos(entry, seen)]
    if isinstance(value, list | deque | dict | set):
        entries = value.values() if isinstance(value, dict) else value
        return [_container(value), *(undo for entry in list(entries) for undo in _undos(entry, seen))]
    if isinstance(value, np.ndarray):
        return [_array(value)]
    if (undo := _generator(value)) is not None:
        return [undo]
    if isinstance(value, FunctionType):
        return _function(value, seen)
    if isinstance(value, MethodType):
        return _undos(value.__self__, seen)
    if isinstance(value, partial):
        return [undo for held in (value.func, value.args, value.keywords) for undo in _undos(held, seen)]
    return _attributes(value, seen) if _is_users(value) else []


def _is_users(value: PythonValue) -> bool:
    """Whether a value is an object with attributes whose class the user wrote, or a bare namespace."""
    if isinstance(value, SimpleNamespace):
        return True
    own = type(value).__module__.split(".")[0] not in _FOREIGN
    return own and hasattr(value, "__dict__") and not isinstance(value, type)


def _function(value: FunctionType, seen: dict[int, PythonValue]) -> list[Undo]:
    """Of a function that the user wrote: its attributes, its closure, and the globals that its code names."""
    if value.__module__ is None or value.__module__.split(".")[0] in _FOREIGN:
        return []
    cells = [cell for cell in value.__closure__ or () if _filled(cell)]
    names = [name for name in value.__code__.co_names if name in value.__globals__]
    contents = [cell.cell_contents for cell in cells]
    read = {name: value.__globals__[name] for name in names}

    def undo() -> None:
        for cell, content in zip(cells, contents, strict=True):
            cell.cell_contents = content
        value.__globals__.update(read)

    held = [value.__dict__, value.__defaults__, *contents, *read.values()]
    return [undo, *(inner for entry in held for inner in _undos(entry, seen))]


def _filled(cell: CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # not bound yet
        return False


def _attributes(value: PythonValue, seen: dict[int, PythonValue]) -> list[Undo]:
    attributes = vars(value)
    before = {n: v for n, v in attributes.items() if not isinstance(value, nn.Module) or n not in _OWN}

    def undo() -> None:
        for name in [n for n in attributes if n not in before]:
            if not isinstance(value, nn.Module) or name not in _OWN:
                del attributes[name]
        attributes.update(before)

    inner = [entry for held in list(before.values()) for entry in _undos(held, seen)]
    rebinding = [_buffers(value)] if isinstance(value, nn.Module) and value._buffers else []
    return [undo, *rebinding, *inner]


def _buffers(module: nn.Module) -> Undo:
    """Puts the same tensors back under the names of a module's buffers."""
    registered = dict(module._buffers)
    return lambda: module._buffers.update(registered)


def _tensor(value: torch.Tensor) -> Undo:
    before = value.detach().clone()

    def undo() -> None:
        # Only where it has changed: writing would break a backward pass that needs the tensor.
        if value.shape == before.shape and not torch.equal(value.detach(), before):
            with torch.no_grad():
                value.detach().copy_(before)

    return undo


def _container(
    value: list[PythonValue] | deque[PythonValue] | dict[PythonValue, PythonValue] | set[PythonValue],
) -> Undo:
    before: Any = value.copy()

    def undo() -> None:
        value.clear()
        value.update(before) if isinstance(value, dict | set) else value.extend(before)

    return undo


def _array(value: np.ndarray) -> Undo:
    before = value.copy()

    def undo() -> None:
        if value.flags.writeable:
            value[...] = before

    return undo


def _generator(value: PythonValue) -> Undo | None:
    """Puts the state of a random generator back; None for any other value."""
    if isinstance(value, torch.Generator):
        return partial(value.set_state, value.get_state())
    if isinstance(value, random.Random):
        return partial(value.setstate, value.getstate())
    if isinstance(value, np.random.RandomState):
        return partial(value.set_state, value.get_state())
    if isinstance(value, np.random.Generator):
        bits: Any = value.bit_generator
        inner = bits.state

        def undo() -> None:
            bits.state = inner

        return undo
    return None
