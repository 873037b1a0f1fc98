"""Trial runs that leave nothing behind: how the library looks at a user's networks and programs before they are trained."""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from types import CellType, FunctionType, MethodType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from pyro_lfm.runtime import Stream, isolated, others_random_kept

# What nn.Module has of its own; parameters and buffers are looked at by themselves.
_OWN = frozenset(vars(nn.Module())) - {"training"}
# Packages whose objects are left alone: they are large, or refer to half of the process.
_FOREIGN = frozenset(sys.stdlib_module_names) | {"numpy", "pandas", "pyro", "pyro_lfm", "scipy", "torch"}

Undo = Callable[[], object]


@contextmanager
def evaluating(*programs: nn.Module) -> Iterator[None]:
    """Evaluation mode (no dropout, running statistics held) for a while; then each submodule has its own mode again."""
    modes = [(module, module.training) for program in programs for module in program.modules()]
    try:
        # Not by eval(), which a module may override to do more than this.
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def probing(*parts: Any, device: torch.device | str = "cpu") -> Iterator[None]:
    """A trial run of modules, in evaluation mode and without gradients: afterwards all is as it was before.

    That is the modes, the values of parameters and buffers, the attributes of modules (counters, lists, generators of
    random numbers) and the random states of torch, Python and NumPy. Where a module makes parameters or parts of its own
    in the run, it has initialised itself: attributes then stay as the run left them.

    >>> layer = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout())
    >>> with probing(layer): _ = layer(torch.ones(2, 3))
    >>> int(layer[0].num_batches_tracked), layer[1].training
    (0, True)
    """
    modules = [part for part in parts if isinstance(part, nn.Module)]
    structure = _structure(modules)
    tensors = [_tensor(value) for module in modules for value in _values(module)]
    seen: dict[int, Any] = {}
    attributes = [undo for module in modules for undo in _kept(module, seen)]
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
def asking(function: Callable[..., Any]) -> Iterator[None]:
    """A call of a function whose state is not to move by it: what it, its closure and its globals hold, random numbers.

    Raises:
        TypeError: it holds an iterator, which cannot be put back.

    >>> with asking(random.random): ahead = random.random()
    >>> random.random() == ahead
    True
    """
    seen: dict[int, Any] = {}
    undos = [*_kept(function, seen), *_kept(vars(type(function)).get("__call__"), seen)]
    if drawn := [value for value in seen.values() if isinstance(value, Iterator)]:
        raise TypeError(f"it takes its values from an iterator ({type(drawn[0]).__name__})")
    try:
        with isolated(Stream(0)), others_random_kept():
            yield
    finally:
        for undo in undos:
            undo()


def _values(module: nn.Module) -> list[torch.Tensor]:
    """Parameters, which some layers change when they run (``Embedding(max_norm=1.0)``), and buffers."""
    every = chain(module.parameters(), module.buffers())
    return [value for value in every if not nn.parameter.is_lazy(value)]


def _structure(modules: list[nn.Module]) -> list[Any]:
    """The parts, parameters and buffers of modules by name, and of which kind they are."""
    found: list[Any] = []
    for module in modules:
        found += [(name, id(part), type(part)) for name, part in module.named_modules()]
        found += [(name, id(p), type(p)) for name, p in module.named_parameters()]
        found += [name for name, _ in module.named_buffers()]
    return found


def _kept(value: Any, seen: dict[int, Any]) -> list[Undo]:
    """What brings a value, and all that it holds, back to what it is now, each object in place."""
    # The values themselves too, so that no other object takes one's number meanwhile.
    if id(value) in seen:
        return []
    seen[id(value)] = value
    if isinstance(value, nn.Module):
        inner = [undo for child in value.children() for undo in _kept(child, seen)]
        return [*_attributes(value, seen), *inner]
    if isinstance(value, torch.Tensor):
        return [] if isinstance(value, nn.Parameter) else [_tensor(value)]
    if isinstance(value, tuple):
        return [undo for entry in value for undo in _kept(entry, seen)]
    if isinstance(value, list | deque | dict | set):
        entries = value.values() if isinstance(value, dict) else value
        return [_container(value), *(undo for entry in list(entries) for undo in _kept(entry, seen))]
    if isinstance(value, np.ndarray):
        return [_array(value)]
    if (undo := _generator(value)) is not None:
        return [undo]
    if isinstance(value, FunctionType):
        return _function(value, seen)
    if isinstance(value, MethodType):
        return _kept(value.__self__, seen)
    if isinstance(value, partial):
        return [undo for held in (value.func, value.args, value.keywords) for undo in _kept(held, seen)]
    return _attributes(value, seen) if _is_users(value) else []


def _is_users(value: Any) -> bool:
    """Whether it is an object of the user's own, or a bare namespace, with attributes."""
    if isinstance(value, SimpleNamespace):
        return True
    own = type(value).__module__.split(".")[0] not in _FOREIGN
    return own and hasattr(value, "__dict__") and not isinstance(value, type)


def _function(value: FunctionType, seen: dict[int, Any]) -> list[Undo]:
    """Of a function of the user's: its attributes, its closure, and the globals that stand in its code."""
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
    return [undo, *(inner for entry in held for inner in _kept(entry, seen))]


def _filled(cell: CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # not bound yet
        return False


def _attributes(value: Any, seen: dict[int, Any]) -> list[Undo]:
    attributes = vars(value)
    before = {n: v for n, v in attributes.items() if not isinstance(value, nn.Module) or n not in _OWN}

    def undo() -> None:
        for name in [n for n in attributes if n not in before]:
            if not isinstance(value, nn.Module) or name not in _OWN:
                del attributes[name]
        attributes.update(before)

    registered = dict(value._buffers) if isinstance(value, nn.Module) else {}

    def rebind() -> None:
        value._buffers.update(registered)

    inner = [found for held in list(before.values()) for found in _kept(held, seen)]
    return [undo, *([rebind] if registered else []), *inner]


def _tensor(value: torch.Tensor) -> Undo:
    before = value.detach().clone()

    def undo() -> None:
        # Only where it has changed: writing would break gradients that wait for a tensor.
        if value.shape == before.shape and not torch.equal(value.detach(), before):
            with torch.no_grad():
                value.detach().copy_(before)

    return undo


def _container(value: Any) -> Undo:
    before = value.copy()

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


def _generator(value: Any) -> Undo | None:
    """Of a generator of random numbers: what puts its state back."""
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
