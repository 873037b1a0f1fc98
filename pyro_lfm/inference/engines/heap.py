"""Everything that some code can reach in memory, as a flat list of places: to see a change, and to undo one.

The walk starts from programs and from the functions that ran, and follows attributes whose names stand in code that ran.
As every object on the way is a place of its own, nothing has changed where no place has: a look is one pass over a list.
"""

from __future__ import annotations

import contextvars
import functools
import random
import re
import threading
import types
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import date, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from typing import Any
from uuid import UUID

import numpy as np
import torch
from torch import nn

from pyro_lfm.inference.engines.places import (
    PLAIN,
    Array,
    Items,
    Names,
    OfClass,
    Pickled,
    Place,
    State,
    Tensors,
    Unknown,
    Value,
)
from pyro_lfm.inference.engines.reads import is_library, is_outside

# Values that are what they are. A lock is free whenever somebody looks.
_CONSTANT = (
    *PLAIN,
    *(torch.layout, torch.memory_format, torch.Size, np.dtype, range, slice, type(...), type(NotImplemented)),
    *(types.CodeType, types.MethodDescriptorType, types.WrapperDescriptorType, types.GetSetDescriptorType),
    *(types.MemberDescriptorType, types.ClassMethodDescriptorType, types.MethodWrapperType, types.GenericAlias),
    *(re.Pattern, PurePath, Decimal, Fraction, UUID, Enum, date, time, timedelta, tzinfo),
    *(type(threading.Lock()), type(threading.RLock())),
)  # fmt: skip
# Bytes of arrays, and entries of containers, that are looked at again and again.
_MOST_BYTES = 2**24
_MOST_ENTRIES = 10**6
# What every module has of its own: parameters, buffers, modules, hooks.
_OF_MODULES = {name for name, value in vars(nn.Module()).items() if isinstance(value, dict)}
_CHILDREN = ("_parameters", "_buffers", "_modules")
_OF_CLASSES = {"__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "_abc_impl"}


class Heap:
    """The places that can be reached from some roots.

    Args:
        roots: {path: object}.
        names: of the attributes that are followed; None for all.
        written: the names of attributes of Python's modules that are followed.
        codes: the ids of the code of functions whose closures and defaults are followed.
        places: further ones to begin with, and what they hold.
    """

    def __init__(
        self,
        roots: dict[str, Any],
        names: Collection[str] | None = None,
        written: Collection[str] = (),
        codes: Collection[int] = (),
        places: Iterable[tuple[Place, dict[str, Any]]] = (),
    ):
        self.names = None if names is None else frozenset(names)
        self.codes, self.written = codes, written
        self.places: list[Place] = []
        # Why not everything can be watched, in words.
        self.doubt: str | None = None
        self.tensors = Tensors()
        self._hooks: list[tuple[str, dict[Any, Any]]] = []
        self._seen: dict[int, Any] = {}
        self._classes: set[type] = set()
        self._bytes = self._entries = 0
        self._queue: deque[tuple[str, Any]] = deque(roots.items())
        for place, held in places:
            self.places.append(place)
            self._queue.extend(held.items())
        try:
            while self._queue:
                self._visit(*self._queue.popleft())
        except Unknown as unknown:
            self.doubt = str(unknown)
        self.places.append(self.tensors)

    # To look at it ------------------------------------------------------------------------------------

    def difference(self, running: bool = False) -> str | None:
        """What is no longer as it was: of several the first; None where all is.

        Args:
            running: whether a run of the programs lies between, and the answer is to say what it did. Otherwise it is
                a path, and random generators do not count: who draws from one is found by that.
        """
        if any(len(hooks) for _, hooks in self._hooks):
            path = next(path for path, hooks in self._hooks if hooks)
            return f"it changes {path} whenever it runs" if running else path
        for place in self.places:
            drawn = isinstance(place, State)
            if (running or not drawn) and (path := place.difference()) is not None:
                if not running:
                    return path
                return f"it draws from {path}" if drawn else f"it changes {path} whenever it runs"
        return None

    def passing(self) -> set[int]:
        """Sets aside what each run of the libraries' own code makes anew; the ids of what stands there now.

        What a run leaves for a later part of the same run decides nothing. Were it read by the next run, it would be
        an input of the graph.
        """
        passing: set[int] = set()
        for place in self.places:
            if isinstance(place, Names) and place.owner is not None and is_library(place.owner.__module__):
                made = [n for n in place.changes() if not isinstance(place.held.get(n), PLAIN)]
                place.volatile.update(made)
                passing.update(id(place.held.get(name)) for name in place.volatile)
                if made and not place.changes():
                    place.saved = place.read()
        return passing

    @contextmanager
    def preserved(self) -> Iterator[None]:
        """Puts everything back, as if what is done had not been."""
        before = [(place, place.read()) for place in self.places]
        try:
            yield
        finally:
            with torch.no_grad():
                for place, content in reversed(before):
                    place.write(content)

    # To find it ---------------------------------------------------------------------------------------

    def _visit(self, path: str, value: Any) -> None:
        if id(value) in self._seen or (isinstance(value, _CONSTANT) and not hasattr(value, "__dict__")):
            return
        # Held, so that no id is given to something else.
        self._seen[id(value)] = value
        for kinds, visit in _VISITS:
            if isinstance(value, kinds):
                visit(self, path, value)
                return
        self._object(path, value)

    def _names(self, path: str, held: Any, owner: Any = None) -> None:
        """The attributes of an object, or with no owner the entries of a dict."""
        names = None if owner is None else self.names
        self._count(path, len(held))
        place = Names(path, held, names, owner=None if owner is None else type(owner))
        self.places.append(place)
        for name, value in held.items():
            if names is None or name in names:
                self._queue.append((f"{path}.{name}", value))

    def _module(self, path: str, module: nn.Module) -> None:
        attributes = vars(module)
        names = None if self.names is None else self.names | {"training", *_OF_MODULES}
        self.places.append(Names(path, attributes, names, owner=type(module)))
        for name, value in attributes.items():
            if name in _CHILDREN:
                self._names(path, value)
            elif name not in _OF_MODULES:
                if names is None or name in names:
                    self._queue.append((f"{path}.{name}", value))
            elif value:
                self._names(f"{path}.{name}", value)
            else:
                self._hooks.append((f"{path}.{name}", value))
        self._class(path, type(module))

    def _object(self, path: str, value: Any) -> None:
        """An object of any other kind: by its attributes, or by what pickle says of it."""
        if not isinstance(value, _CONSTANT) and not _is_open(type(value)):
            self.places.append(Pickled(path, value))
        self._attributes(path, value)

    def _attributes(self, path: str, value: Any) -> None:
        kind = type(value)
        if isinstance(attributes := getattr(value, "__dict__", None), dict):
            self._names(path, attributes, value)
        for name in _slots(kind):
            if self.names is None or name in self.names:
                self._value(f"{path}.{name}", functools.partial(getattr, value, name, None), value, name)
        self._class(path, kind)

    def _value(self, path: str, get: Callable[[], Any], owner: Any, name: str) -> None:
        self.places.append(Value(path, get, functools.partial(_put, owner, name)))
        self._queue.append((path, get()))

    def _class(self, path: str, kind: type) -> None:
        for base in kind.__mro__:
            if is_library(base.__module__) or base in self._classes:
                continue
            self._classes.add(base)
            names = {
                name
                for name in vars(base)
                if name not in _OF_CLASSES
                and (self.names is None or name in self.names or name.startswith("__"))
            }
            self.places.append(OfClass(base.__qualname__, base, names))
            self._queue.extend((f"{base.__qualname__}.{name}", vars(base)[name]) for name in names)

    def _python_module(self, path: str, module: types.ModuleType) -> None:
        held = vars(module)
        # Only what code by hand asks modules for; of a library's module, whether it is still the same.
        names = set(self.written) & held.keys()
        self.places.append(Names(module.__name__, held, names, whole=False))
        of_library = is_library(module.__name__)
        for name in names:
            if not of_library or isinstance(held[name], types.ModuleType):
                self._queue.append((f"{module.__name__}.{name}", held[name]))

    def _function(self, path: str, function: types.FunctionType) -> None:
        if attributes := vars(function):
            self._names(path, attributes, function)
        if id(function.__code__) not in self.codes:
            return
        for name in ("__code__", "__defaults__", "__kwdefaults__"):
            self._value(f"{path}.{name}", functools.partial(getattr, function, name), function, name)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self._queue.append((f"{function.__qualname__}.{name}", cell))

    def _builtin(self, path: str, function: types.BuiltinFunctionType) -> None:
        if is_outside(function):
            raise Unknown(f"{path} is {function.__name__}, which reads what is outside the program")
        if not isinstance(function.__self__, types.ModuleType):
            self._queue.append((path, function.__self__))

    def _cell(self, path: str, cell: types.CellType) -> None:
        self._value(path, functools.partial(_content, cell), cell, "cell_contents")

    def _array(self, path: str, value: np.ndarray) -> None:
        self._bytes += value.nbytes
        if self._bytes > _MOST_BYTES:
            raise Unknown(f"{path} is an array of {value.nbytes} bytes: too large to be watched")
        self.places.append(Array(path, value))

    def _generator(self, path: str, value: Any) -> None:
        if isinstance(value, random.SystemRandom):
            raise Unknown(f"{path} draws random numbers that no seed decides")
        self.places.append(State(path, *_STATES[next(kind for kind in _STATES if isinstance(value, kind))](value)))

    def _items(self, path: str, value: Any) -> None:
        self._count(path, len(value))
        self.places.append(Items(path, value))
        self._entries_of(path, value)
        self._attributes(path, value)

    def _entries_of(self, path: str, value: Iterable[Any]) -> None:
        self._queue.extend((f"{path}.{k}", entry) for k, entry in enumerate(value))

    def _dict(self, path: str, value: dict[Any, Any]) -> None:
        self._names(path, value)
        self._attributes(path, value)

    def _tensor(self, path: str, value: torch.Tensor) -> None:
        self.tensors.add(path, value)
        if attributes := vars(value):
            self._names(path, attributes, value)

    def _variable(self, path: str, value: contextvars.ContextVar[Any]) -> None:
        self.places.append(Value(path, functools.partial(value.get, None), value.set))
        self._queue.append((path, value.get(None)))

    def _parts(self, path: str, value: Any) -> None:
        """What is made of others once for all, such as a bound method."""
        names = ("__self__", "__func__", "func", "args", "keywords", "fget", "__wrapped__")
        self._queue.extend((path, part) for name in names if (part := getattr(value, name, None)) is not None)

    def _count(self, path: str, entries: int) -> None:
        self._entries += entries
        if self._entries > _MOST_ENTRIES:
            raise Unknown(f"{path} holds {entries} entries: too many to be watched")


_Visit = Callable[[Heap, str, Any], None]
_GENERATORS = (
    torch.Generator,
    random.Random,
    np.random.Generator,
    np.random.BitGenerator,
    np.random.RandomState,
)
# How each kind of generator gives its state, and takes it.
_STATES: dict[type, Callable[[Any], tuple[Callable[[], Any], Callable[[Any], Any]]]] = {
    torch.Generator: lambda g: (g.get_state, g.set_state),
    random.Random: lambda g: (g.getstate, g.setstate),
    np.random.RandomState: lambda g: (g.get_state, g.set_state),
    np.random.Generator: lambda g: _STATES[np.random.BitGenerator](g.bit_generator),
    np.random.BitGenerator: lambda g: (lambda: g.state, functools.partial(setattr, g, "state")),
}
_VISITS: tuple[tuple[Any, _Visit], ...] = (
    (torch.Tensor, Heap._tensor),
    (nn.Module, Heap._module),
    (dict, Heap._dict),
    (types.FunctionType, Heap._function),
    (list | deque | set | bytearray, Heap._items),
    (tuple | frozenset, Heap._entries_of),
    (type, lambda heap, path, value: heap._class(path, value)),
    (types.ModuleType, Heap._python_module),
    (types.BuiltinFunctionType, Heap._builtin),
    (types.CellType, Heap._cell),
    (np.ndarray, Heap._array),
    (_GENERATORS, Heap._generator),
    (types.MethodType | functools.partial | property | staticmethod | classmethod, Heap._parts),
    (functools.cached_property | type(functools.lru_cache(len)), Heap._parts),
    (threading.local, Heap._attributes),
    (weakref.ref, lambda heap, path, value: heap._queue.append((path, value()))),
    (contextvars.ContextVar, Heap._variable),
    (types.MappingProxyType, lambda heap, path, value: heap._names(path, value)),
)


def _slots(kind: type) -> Iterator[str]:
    """The names of an object's slots, private ones as Python mangles them."""
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            if name not in ("__dict__", "__weakref__"):
                private = name.startswith("__") and not name.endswith("__")
                yield f"_{base.__name__.lstrip('_')}{name}" if private else name


def _is_open(kind: type) -> bool:
    """Whether all that an object holds is in its attributes and slots, and nothing in memory that only C knows."""
    pointer = tuple.__itemsize__
    places = sum(map(bool, (kind.__dictoffset__ > 0, kind.__weakrefoffset__ > 0)))  # type: ignore[attr-defined]
    places += sum(1 for _ in _slots(kind))
    return not kind.__itemsize__ and kind.__basicsize__ <= object.__basicsize__ + pointer * places


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


def _put(owner: Any, name: str, value: Any) -> None:
    object.__setattr__(owner, name, value)
