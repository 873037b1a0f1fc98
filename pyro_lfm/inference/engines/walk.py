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

from pyro_lfm.inference.engines.nodes import PLAIN, Node
from pyro_lfm.inference.engines.object_layout import content_of, holds_all_in_attributes, slots_of
from pyro_lfm.inference.engines.places import (
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
        roots: the objects to begin with.
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
        roots: Iterable[Node],
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
        self._queue = deque(roots)

    def go(self) -> None:
        while self._queue:
            node = self._queue.popleft()
            if len(self.places) > _MOST_PLACES:
                raise Unknown(
                    f"{node.path} is one of more than {_MOST_PLACES} objects: too many to be watched"
                )
            self._visit(node)

    def _visit(self, node: Node) -> None:
        value = node.value
        if id(value) in self._seen or (isinstance(value, _CONSTANT) and not hasattr(value, "__dict__")):
            return
        # Kept, so that its id is not given to another object.
        self._seen[id(value)] = value
        visit = next((visit for kinds, visit in _VISITS if isinstance(value, kinds)), Walk._object)
        visit(self, node)

    def _names(self, node: Node, owner: type | None = None) -> None:
        """The attributes of an object of class ``owner``, or without an owner the entries of a dict."""
        path, held = node
        names_read = ALL if owner is None else self._of(owner)
        self._count(path, len(held))
        self.places.append(Names(node, names_read, owner=owner))
        for name, value in held.items():
            if names_read.counts(name, value):
                self._queue.append(Node(f"{path}.{name}", value))

    def _of(self, kind: type) -> ReadNames:
        if kind not in self._names_read_by_class:
            # The attributes that torch's own code reads of every module.
            own = ("training", *_OF_MODULES) if issubclass(kind, nn.Module) else ()
            self._names_read_by_class[kind] = self._names_read.of(kind, own)
        return self._names_read_by_class[kind]

    def _module(self, node: Node) -> None:
        path, kind = node.path, type(node.value)
        attributes, names_read = vars(node.value), self._of(kind)
        self.places.append(Names(Node(path, attributes), names_read, owner=kind))
        for name, value in attributes.items():
            if name in _CHILDREN:
                self._names(Node(path, value))
            elif name not in _OF_MODULES:
                if names_read.counts(name, value):
                    self._queue.append(Node(f"{path}.{name}", value))
            elif value:
                self._names(Node(f"{path}.{name}", value))
            else:
                self.hooks.append((f"{path}.{name}", value))
        self._class(kind)

    def _object(self, node: Node) -> None:
        """An object of any other kind: by its attributes, or by its pickle."""
        kind = type(node.value)
        # A descriptor made in C holds nothing itself: it computes attributes of other objects.
        computes = hasattr(kind, "__get__") or isinstance(node.value, _CONSTANT)
        if not computes and not holds_all_in_attributes(kind):
            self.places.append(Pickled(node))
        self._attributes(node)

    def _attributes(self, node: Node) -> None:
        path, value = node
        kind = type(value)
        if isinstance(attributes := getattr(value, "__dict__", None), dict):
            self._names(Node(path, attributes), kind)
        for name in slots_of(kind):
            if self._of(kind).counts(name, getattr(value, name, None)):
                self._attribute(node, name, f"{path}.{name}")
        self._class(kind)

    def _attribute(self, owner: Node, name: str, path: str) -> None:
        """An attribute that stands in no dict."""
        put = functools.partial(object.__setattr__, owner.value, name)
        self._value(Value(path, functools.partial(_attribute_of, owner, name), put))

    def _value(self, place: Place) -> None:
        self.places.append(place)
        self._queue.append(Node(place.path, place.read()))

    def _class(self, kind: type) -> None:
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
            self._queue.extend(Node(f"{base.__qualname__}.{name}", vars(base)[name]) for name in names)

    def _python_module(self, node: Node) -> None:
        module: types.ModuleType = node.value
        held = vars(module)
        # Only names that the user's code reads. A library's module is compared by identity.
        names = set(self.written) & held.keys()
        self.places.append(Names(Node(module.__name__, held), ReadNames(names), whole=False))
        of_library = is_library(module.__name__)
        for name in names:
            if not of_library or isinstance(held[name], types.ModuleType):
                self._queue.append(Node(f"{module.__name__}.{name}", held[name]))

    def _function(self, node: Node) -> None:
        function: types.FunctionType = node.value
        if attributes := vars(function):
            self._names(Node(node.path, attributes), type(function))
        if id(function.__code__) not in self.codes:
            return
        for name in ("__code__", "__defaults__", "__kwdefaults__"):
            self._attribute(node, name, f"{node.path}.{name}")
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self._queue.append(Node(f"{function.__qualname__}.{name}", cell))

    def _builtin(self, node: Node) -> None:
        function: types.BuiltinFunctionType = node.value
        if is_outside(function):
            raise Unknown(f"{node.path} is {function.__name__}, which reads values outside the program")
        if not isinstance(function.__self__, types.ModuleType):
            self._queue.append(Node(node.path, function.__self__))

    def _cell(self, node: Node) -> None:
        put = functools.partial(setattr, node.value, "cell_contents")
        self._value(Value(node.path, functools.partial(content_of, node.value), put))

    def _array(self, node: Node) -> None:
        array: np.ndarray = node.value
        self._bytes += array.nbytes
        if self._bytes > _MOST_BYTES:
            raise Unknown(f"{node.path} is an array of {array.nbytes} bytes: too large to be watched")
        self.places.append(Array(node.path, array))

    def _generator(self, node: Node) -> None:
        if isinstance(node.value, random.SystemRandom):
            raise Unknown(f"{node.path} draws random numbers that no seed decides")
        functions = next(_STATES[kind] for kind in _STATES if isinstance(node.value, kind))
        self.places.append(State(node.path, *functions(node.value)))

    def _items(self, node: Node) -> None:
        self._count(node.path, len(node.value))
        self.places.append(Items(node))
        self._entries_of(node)
        self._attributes(node)

    def _entries_of(self, node: Node) -> None:
        self._queue.extend(Node(f"{node.path}.{k}", entry) for k, entry in enumerate(node.value))

    def _dict(self, node: Node) -> None:
        self._names(node)
        self._attributes(node)

    def _tensor(self, node: Node) -> None:
        tensor: torch.Tensor = node.value
        self.tensors.add(node.path, tensor)
        if attributes := vars(tensor):
            self._names(Node(node.path, attributes), type(tensor))

    def _view(self, node: Node) -> None:
        self.places.append(Value(node.path, functools.partial(dict, node.value)))
        self._queue.extend(Node(f"{node.path}.{name}", entry) for name, entry in node.value.items())

    def _variable(self, node: Node) -> None:
        self._value(Value(node.path, functools.partial(node.value.get, None), node.value.set))

    def _parts(self, node: Node) -> None:
        """An object that is made of others and does not change, such as a bound method."""
        names = ("__self__", "__func__", "func", "args", "keywords", "fget", "__wrapped__")
        parts = [getattr(node.value, name, None) for name in names]
        self._queue.extend(Node(node.path, part) for part in parts if part is not None)

    def _referent(self, node: Node) -> None:
        """The object that a weak reference leads to."""
        self._queue.append(Node(node.path, node.value()))

    def _count(self, path: str, entries: int) -> None:
        self._entries += entries
        if self._entries > _MOST_ENTRIES:
            raise Unknown(f"{path} holds {entries} entries: too many to be watched")


def _attribute_of(owner: Node, name: str) -> Any:
    return getattr(owner.value, name, None)


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
_VISITS: tuple[tuple[Any, Callable[[Walk, Node], None]], ...] = (
    (torch.Tensor, Walk._tensor),
    (nn.Module, Walk._module),
    (dict, Walk._dict),
    (types.FunctionType, Walk._function),
    (list | deque | set | bytearray, Walk._items),
    (tuple | frozenset, Walk._entries_of),
    (type, lambda walk, node: walk._class(node.value)),
    (types.ModuleType, Walk._python_module),
    (types.BuiltinFunctionType, Walk._builtin),
    (types.CellType, Walk._cell),
    (np.ndarray, Walk._array),
    (_GENERATORS, Walk._generator),
    (types.MethodType | functools.partial | property | staticmethod | classmethod, Walk._parts),
    (functools.cached_property | type(functools.lru_cache(len)), Walk._parts),
    (threading.local, Walk._attributes),
    (weakref.ref, Walk._referent),
    (contextvars.ContextVar, Walk._variable),
    (types.MappingProxyType, Walk._view),
)
