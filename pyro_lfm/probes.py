"""Trial runs that leave nothing behind, by which the library looks at a user's networks, programs and schedules."""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from types import CellType, FunctionType, MethodType, SimpleNamespace
from typing import Any, SupportsFloat, TypeAlias

import numpy as np
import torch
from torch import nn

from pyro_lfm.runtime import Stream, in_turn, isolated, others_random_kept

# The attributes that nn.Module itself makes. Parameters and buffers are handled apart.
_OWN = frozenset(vars(nn.Module())) - {"training"}
# Packages whose objects are not followed: they are large, or refer to half of the process.
_FOREIGN = frozenset(sys.stdlib_module_names) | {"numpy", "pandas", "pyro", "pyro_lfm", "scipy", "torch"}

RandomGenerator: TypeAlias = torch.Generator | random.Random | np.random.RandomState | np.random.Generator
_GENERATORS = (torch.Generator, random.Random, np.random.RandomState, np.random.Generator)

# Puts one value back as it was.
Undo = Callable[[], None]


@contextmanager
def evaluating(*programs: nn.Module) -> Iterator[None]:
    """Evaluation mode: no dropout, running statistics held. Afterwards each submodule has its own mode again.

    Threads take turns: one that left would switch modules that they share back to training under another.
    """
    with in_turn():
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
def probing(*parts: nn.Module | Callable[..., Any], device: torch.device | str = "cpu") -> Iterator[None]:
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
    reached = _Reached()
    reached.add(*modules)
    try:
        with isolated(Stream(0, device), device), evaluating(*modules), others_random_kept(), torch.no_grad():
            yield
    finally:
        for undo in tensors:
            undo()
        if _structure(modules) == structure:
            for undo in reached.undos:
                undo()


@contextmanager
def restoring(function: Callable[..., SupportsFloat]) -> Iterator[None]:
    """Puts back what a call of a function changes: its attributes, its closure, its globals and random states.

    Raises:
        TypeError: the function holds an iterator, which cannot be put back.

    >>> with restoring(random.random): ahead = random.random()
    >>> random.random() == ahead
    True
    """
    reached = _Reached()
    reached.add(function, vars(type(function)).get("__call__"))
    if iterators := [value for value in reached.seen.values() if isinstance(value, Iterator)]:
        raise TypeError(f"it takes its values from an iterator ({type(iterators[0]).__name__})")
    try:
        with isolated(Stream(0)), others_random_kept():
            yield
    finally:
        for undo in reached.undos:
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


class _Reached:
    """Some values and all that they hold.

    Attributes:
        undos: the functions that put each of them back, in place, as it was when it was added.
        seen: the values by id. They are kept, so that no id is given to another object meanwhile.
    """

    def __init__(self) -> None:
        self.undos: list[Undo] = []
        self.seen: dict[int, Any] = {}

    def add(self, *values: Any) -> None:
        for value in values:
            if id(value) not in self.seen:
                self.seen[id(value)] = value
                self._add(value)

    def _add(self, value: object) -> None:
        if isinstance(value, nn.Module):
            self._module(value)
        elif isinstance(value, torch.Tensor):
            if not isinstance(value, nn.Parameter):
                self.undos.append(_tensor(value))
        elif isinstance(value, tuple):
            self.add(*value)
        elif isinstance(value, list | deque | dict | set):
            self.undos.append(partial(_refill, value, value.copy()))
            self.add(*(value.values() if isinstance(value, dict) else value))
        elif isinstance(value, np.ndarray):
            self.undos.append(_array(value))
        elif isinstance(value, _GENERATORS):
            self.undos.append(_generator(value))
        elif isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, MethodType):
            self.add(value.__self__)
        elif isinstance(value, partial):
            self.add(value.func, value.args, value.keywords)
        elif isinstance(value, SimpleNamespace):
            self._attributes(vars(value))
        elif _is_users(type(value)) and hasattr(value, "__dict__") and not isinstance(value, type):
            self._attributes(vars(value))

    def _module(self, module: nn.Module) -> None:
        if module._buffers:
            self.undos.append(_buffers(module))
        self._attributes(vars(module), without=_OWN)
        self.add(*module.children())

    def _attributes(self, attributes: dict[str, Any], without: Collection[str] = ()) -> None:
        before = {name: value for name, value in attributes.items() if name not in without}

        def undo() -> None:
            for name in attributes.keys() - before.keys() - {*without}:
                del attributes[name]
            attributes.update(before)

        self.undos.append(undo)
        self.add(*before.values())

    def _function(self, function: FunctionType) -> None:
        """Of a function that the user wrote: its attributes, its closure, and the globals that its code names."""
        if function.__module__ is None or not _is_users(function):
            return
        cells = [cell for cell in function.__closure__ or () if _filled(cell)]
        contents = [cell.cell_contents for cell in cells]
        names = [name for name in function.__code__.co_names if name in function.__globals__]
        read = {name: function.__globals__[name] for name in names}

        def undo() -> None:
            for cell, content in zip(cells, contents, strict=True):
                cell.cell_contents = content
            function.__globals__.update(read)

        self.undos.append(undo)
        self.add(function.__dict__, function.__defaults__, *contents, *read.values())


def _is_users(part: type | FunctionType) -> bool:
    """Whether the user wrote a class or a function."""
    return part.__module__.split(".")[0] not in _FOREIGN


def _filled(cell: CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # not bound yet
        return False


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


def _refill(container: list[Any] | deque[Any] | dict[Any, Any] | set[Any], before: Any) -> None:
    container.clear()
    container.update(before) if isinstance(container, dict | set) else container.extend(before)


def _array(value: np.ndarray) -> Undo:
    before = value.copy()

    def undo() -> None:
        if value.flags.writeable:
            value[...] = before

    return undo


def _generator(generator: RandomGenerator) -> Undo:
    """Puts the state of a random generator back."""
    if isinstance(generator, torch.Generator):
        return partial(_set_state, generator, generator.get_state())
    if isinstance(generator, random.Random):
        return partial(generator.setstate, generator.getstate())
    if isinstance(generator, np.random.RandomState):
        return partial(generator.set_state, generator.get_state())
    bits = generator.bit_generator
    return partial(setattr, bits, "state", bits.state)


def _set_state(generator: torch.Generator, state: torch.Tensor) -> None:
    generator.set_state(state)
