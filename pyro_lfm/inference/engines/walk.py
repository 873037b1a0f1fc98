"""``Walk``, which finds the places of a ``Heap``: it goes through memory from object to object, each by its kind.

It follows attributes whose names stand in code that ran, and the closures of functions that ran.
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
from collections.abc import Callable, Collection, Iterable
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

from pyro_lfm.inference.engines.object_layout import (
    content_of,
    holds_all_in_attributes,
    set_attribute,
    slots_of,
)
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
from pyro_lfm.inference.engines.reads import ALL, ReadNames, is_library, is_outside
from pyro_lfm.probes import PythonValue

# Types of values that cannot change, and of locks, which are free between steps.
_CONSTANT = (
    *PLAIN,
    *(torch.layout, torch.memory_format, torch.Size, np.dtype, range, slice, type(...), type(NotImplemented)),
    *(types.CodeType, types.MethodDescriptorType, types.WrapperDescriptorType, types.GetSetDescriptorType),
    *(types.MemberDescriptorType, types.ClassMethodDescriptorType, types.MethodWrapperType, types.GenericAlias),
    *(re.Pattern, PurePath, Decimal, Fraction, UUID, Enum, date, time, timedelta, tzinfo),
    *(type(threading.Lock()), type(threading.RLock())),
)  # fmt: skip
# The most bytes of arrays, entries of containers, and places, that are compared again and again.
_MOST_BYTES = 2**24
_MOST_ENTRIES = 10**6
_MOST_PLACES = 10**4
# The dicts that every module has: of parameters, buffers, submodules and hooks.
_OF_MODULES = {name for name, value in vars(nn.Module()).items() if isinstance(value, dict)}
_CHILDREN = ("_parameters", "_buffers", "_modules")
_OF_CLASSES = {"__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "_abc_impl"}


class Walk:
    """Goes from some roots to every object that code can reach.

    Args:
        roots: {path: object}.
        names_read: the attributes that are followed.
        written: the attributes of Python modules that are followed.
        codes: the ids of the code of functions whose closures and defaults are followed.

    Attributes:
        places: all places on the way.
        hooks: the empty dicts of modules' hooks, by path.

    Raises:
        Unknown: an object on the way cannot be watched.
    """

    def __init__(
        self,
        roots: dict[str, PythonValue],
        names_read: ReadNames,
        written: Collection[str],
        codes: Collection[int],
    ):
        self._names_read, self._names_read_by_class = names_read, dict[type, ReadNames]()
        self.codes, self.written = codes, written
        self.tensors = Tensors()
        self.places: list[Place] = [self.tensors]
        self.hooks: list[tuple[str, dict[Any, Any]]] = []
        self._seen: dict[int, Any] = {}
        self._classes: set[type] = set()
        self._bytes = self._entries = 0
        self._queue: deque[tuple[str, Any]] = deque(roots.items())

    def go(self) -> None:
        while self._queue:
            path, value = self._queue.popleft()
            if len(self.places) > _MOST_PLACES:
                raise Unknown(f"{path} is one of more than {_MOST_PLACES} objects: too many to be watched")
            self._visit(path, value)

    def _visit(self, path: str, value: PythonValue) -> None:
        if id(value) in self._seen or (isinstance(value, _CONSTANT) and not hasattr(value, "__dict__")):
            return
        # Kept, so that its id is not given to another object.
        self._seen[id(value)] = value
        for kinds, visit in _VISITS:
            if isinstance(value, kinds):
                visit(self, path, value)
                return
        self._object(path, value)

    def _names(self, path: str, held: dict[str, PythonValue], owner: PythonValue = None) -> None:
        """The attributes of an object, or without an owner the entries of a dict."""
        names_read = ALL if owner is None else self._of(type(owner))
        self._count(path, len(held))
        self.places.append(Names(path, held, names_read, owner=None if owner is None else type(owner)))
        for name, value in held.items():
            if names_read.counts(name, value):
                self._queue.append((f"{path}.{name}", value))

    def _of(self, kind: type) -> ReadNames:
        if kind not in self._names_read_by_class:
            # The attributes that torch's own code reads of every module.
            own = ("training", *_OF_MODULES) if issubclass(kind, nn.Module) else ()
            self._names_read_by_class[kind] = self._names_read.of(kind, own)
        return self._names_read_by_class[kind]

    def _module(self, path: str, module: nn.Module) -> None:
        attributes, names_read = vars(module), self._of(type(module))
        self.places.append(Names(path, attributes, names_read, owner=type(module)))
        for name, value in attributes.items():
            if name in _CHILDREN:
                self._names(path, value)
            elif name not in _OF_MODULES:
                if names_read.counts(name, value):
                    self._queue.append((f"{path}.{name}", value))
            elif value:
                self._names(f"{path}.{name}", value)
            else:
                self.hooks.append((f"{path}.{name}", value))
        self._class(path, type(module))

    def _object(self, path: str, value: PythonValue) -> None:
        """An object of any other kind: by its attributes, or by its pickle."""
        # A descriptor made in C holds nothing itself: it computes attributes of other objects.
        computes = hasattr(type(value), "__get__") or isinstance(value, _CONSTANT)
        if not computes and not holds_all_in_attributes(type(value)):
            self.places.append(Pickled(path, value))
        self._attributes(path, value)

    def _attributes(self, path: str, value: PythonValue) -> None:
        kind = type(value)
        if isinstance(attributes := getattr(value, "__dict__", None), dict):
            self._names(path, attributes, value)
        for name in slots_of(kind):
            if self._of(kind).counts(name, getattr(value, name, None)):
                self._value(f"{path}.{name}", functools.partial(getattr, value, name, None), value, name)
        self._class(path, kind)

    def _value(self, path: str, get: Callable[[], PythonValue], owner: PythonValue, name: str) -> None:
        self.places.append(Value(path, get, functools.partial(set_attribute, owner, name)))
        self._queue.append((path, get()))

    def _class(self, path: str, kind: type) -> None:
        for base in kind.__mro__:
            if is_library(base.__module__) or base in self._classes:
                continue
            self._classes.add(base)
            names = {
                name
                for name, value in vars(base).items()
                if name not in _OF_CLASSES
                and (callable(value) if name.startswith("__") else self._of(kind).counts(name, value))
            }
            self.places.append(OfClass(base.__qualname__, base, ReadNames(names)))
            self._queue.extend((f"{base.__qualname__}.{name}", vars(base)[name]) for name in names)

    def _python_module(self, path: str, module: types.ModuleType) -> None:
        held = vars(module)
        # Only names that the user's code reads. A library's module is compared by identity.
        names = set(self.written) & held.keys()
        self.places.append(Names(module.__name__, held, ReadNames(names), whole=False))
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
        self._value(path, functools.partial(content_of, cell), cell, "cell_contents")

    def _array(self, path: str, value: np.ndarray) -> None:
        self._bytes += value.nbytes
        if self._bytes > _MOST_BYTES:
            raise Unknown(f"{path} is an array of {value.nbytes} bytes: too large to be watched")
        self.places.append(Array(path, value))

    def _generator(self, path: str, value: PythonValue) -> None:
        if isinstance(value, random.SystemRandom):
            raise Unknown(f"{path} draws random numbers that no seed decides")
        self.places.append(
            State(path, *_STATES[next(kind for kind in _STATES if isinstance(value, kind))](value))
        )

    def _items(
        self, path: str, value: list[PythonValue] | deque[PythonValue] | set[PythonValue] | bytearray
    ) -> None:
        self._count(path, len(value))
        self.places.append(Items(path, value))
        self._entries_of(path, value)
        self._attributes(path, value)

    def _entries_of(self, path: str, value: Iterable[PythonValue]) -> None:
        self._queue.extend((f"{path}.{k}", entry) for k, entry in enumerate(value))

    def _dict(self, path: str, value: dict[str, PythonValue]) -> None:
        self._names(path, value)
        self._attributes(path, value)

    def _tensor(self, path: str, value: torch.Tensor) -> None:
        self.tensors.add(path, value)
        if attributes := vars(value):
            self._names(path, attributes, value)

    def _view(self, path: str, value: types.MappingProxyType[PythonValue, PythonValue]) -> None:
        self.places.append(Value(path, functools.partial(dict, value), None))
        self._queue.extend((f"{path}.{name}", entry) for name, entry in value.items())

    def _variable(self, path: str, value: contextvars.ContextVar[PythonValue]) -> None:
        self.places.append(Value(path, functools.partial(value.get, None), value.set))
        self._queue.append((path, value.get(None)))

    def _parts(self, path: str, value: PythonValue) -> None:
        """An object that is made of others and does not change, such as a bound method."""
        names = ("__self__", "__func__", "func", "args", "keywords", "fget", "__wrapped__")
        self._queue.extend((path, part) for name in names if (part := getattr(value, name, None)) is not None)

    def _count(self, path: str, entries: int) -> None:
        self._entries += entries
        if self._entries > _MOST_ENTRIES:
            raise Unknown(f"{path} holds {entries} entries: too many to be watched")


_Visit = Callable[[Walk, str, Any], None]
_GENERATORS = (
    torch.Generator,
    random.Random,
    np.random.Generator,
    np.random.BitGenerator,
    np.random.RandomState,
)
# The functions by which each kind of generator gives its state and takes one.
_STATES: dict[type, Callable[[Any], tuple[Callable[[], Any], Callable[[Any], Any]]]] = {
    torch.Generator: lambda g: (g.get_state, g.set_state),
    random.Random: lambda g: (g.getstate, g.setstate),
    np.random.RandomState: lambda g: (g.get_state, g.set_state),
    np.random.Generator: lambda g: _STATES[np.random.BitGenerator](g.bit_generator),
    np.random.BitGenerator: lambda g: (lambda: g.state, functools.partial(setattr, g, "state")),
}
_VISITS: tuple[tuple[Any, _Visit], ...] = (
    (torch.Tensor, Walk._tensor),
    (nn.Module, Walk._module),
    (dict, Walk._dict),
    (types.FunctionType, Walk._function),
    (list | deque | set | bytearray, Walk._items),
    (tuple | frozenset, Walk._entries_of),
    (type, lambda walk, path, value: walk._class(path, value)),
    (types.ModuleType, Walk._python_module),
    (types.BuiltinFunctionType, Walk._builtin),
    (types.CellType, Walk._cell),
    (np.ndarray, Walk._array),
    (_GENERATORS, Walk._generator),
    (types.MethodType | functools.partial | property | staticmethod | classmethod, Walk._parts),
    (functools.cached_property | type(functools.lru_cache(len)), Walk._parts),
    (threading.local, Walk._attributes),
    (weakref.ref, lambda walk, path, value: walk._queue.append((path, value()))),
    (contextvars.ContextVar, Walk._variable),
    (types.MappingProxyType, Walk._view),
)
