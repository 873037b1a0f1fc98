"""Places in memory where a value can change, for ``Heap``: each can be read, compared with what it was, and put back."""

from __future__ import annotations

import io
import pickle
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from operator import is_
from types import MappingProxyType
from typing import Any, Generic, TypeAlias, TypeVar, cast

import numpy as np
import torch

from pyro_lfm.inference.engines import tracing
from pyro_lfm.inference.engines.reads import ReadNames
from pyro_lfm.probes import PythonValue

PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic, torch.dtype, torch.device)
_ABSENT = object()
# The most bytes of the pickled state of an object of an unknown kind that is watched.
_MOST_PICKLED = 2**20

# What a place holds, as ``read`` gives it.
Content = TypeVar("Content")


class Unknown(Exception):
    """An object whose state cannot be watched."""


def same(one: PythonValue, other: PythonValue) -> bool:
    """Whether two values are one object, or are equal and consist of plain values alone.

    >>> same([1, "a"], [1, "a"]), same(1, 1.0), same(float("nan"), float("nan"))
    (True, False, True)
    """
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, PLAIN):
        return bool(one == other) or bool(one != one and other != other)
    if isinstance(one, list | tuple) and type(one) in (list, tuple, torch.Size):
        entries = cast(Sequence[PythonValue], other)
        return len(one) == len(entries) and all(map(same, one, entries))
    if type(one) is dict:
        twin = cast(dict[PythonValue, PythonValue], other)
        return one.keys() == twin.keys() and all(same(one[key], twin[key]) for key in one)
    return False


class Place(ABC, Generic[Content]):
    """A place whose content can change. ``saved`` is the content at the last look."""

    path: str
    saved: Any

    @abstractmethod
    def read(self) -> Content:
        """The content now; a copy, if it can change in place."""

    @abstractmethod
    def write(self, content: Content) -> None:
        """Puts back what ``read`` gave."""

    def difference(self) -> str | None:
        """The path of a value that is no longer as it was; None where none has changed."""
        return None if same(self.read(), self.saved) else self.path


# A place of any content.
AnyPlace: TypeAlias = Place[Any]


class Names(Place[dict[str, Any]]):
    """Values by name: the entries of a dict, the attributes of an object, the globals of a module.

    Args:
        held: the mapping itself.
        names_read: which names count.
        whole: whether all of the mapping may be put back, and not only the names that count.
        owner: the class of the object whose attributes these are.
    """

    def __init__(
        self,
        path: str,
        held: dict[str, PythonValue] | MappingProxyType[str, PythonValue],
        names_read: ReadNames,
        whole: bool = True,
        owner: type | None = None,
    ):
        self.held: Any = held
        self.path, self.names_read, self.whole, self.owner = path, names_read, whole, owner
        self.volatile: set[str] = set()
        self.saved = self.read()

    def read(self) -> dict[str, Any]:
        if self.whole:
            return dict(self.held)
        return {name: value for name, value in self.held.items() if self.names_read.counts(name, value)}

    def write(self, content: dict[str, PythonValue]) -> None:
        now = self.read()
        if now.keys() == content.keys() and all(map(is_, now.values(), content.values())):
            return
        for name in now.keys() - content.keys():
            del self.held[name]
        self.held.update(content)
        if self.whole and list(self.held) != list(content):
            self.held.clear()
            self.held.update(content)

    def changes(self) -> list[str]:
        now, then = self.held if self.whole else self.read(), self.saved
        if len(now) == len(then) and all(map(is_, now.values(), then.values())) and now.keys() == then.keys():
            return []
        return [
            name
            for name in {**then, **now}
            if name not in self.volatile
            and not same(now.get(name, _ABSENT), then.get(name, _ABSENT))
            and self.names_read.counts(name, now.get(name), then.get(name))
        ]

    def difference(self) -> str | None:
        return next((f"{self.path}.{name}" for name in self.changes()), None)


class OfClass(Names):
    """The entries of a class that the user wrote."""

    def __init__(self, path: str, kind: type, names_read: ReadNames):
        self.kind = kind
        super().__init__(path, vars(kind), names_read, whole=False)

    def write(self, content: dict[str, PythonValue]) -> None:
        now = self.read()
        for name in now.keys() - content.keys():
            delattr(self.kind, name)
        for name, value in content.items():
            if now.get(name, _ABSENT) is not value:
                setattr(self.kind, name, value)


class Items(Place[Any]):
    """The entries of a list, a deque, a set or a bytearray."""

    def __init__(
        self, path: str, held: list[PythonValue] | deque[PythonValue] | set[PythonValue] | bytearray
    ):
        self.held: Any = held
        self.path, self.saved = path, None
        self.saved = self.read()

    def read(self) -> Any:
        return self.held.copy() if isinstance(self.held, set | bytearray) else list(self.held)

    def write(self, content: list[PythonValue] | set[PythonValue] | bytearray) -> None:
        if isinstance(self.held, set):
            self.held.clear()
            self.held.update(content)
        elif isinstance(self.held, list | bytearray):
            entries: Any = content
            self.held[:] = entries
        else:
            self.held.clear()
            self.held.extend(content)

    def difference(self) -> str | None:
        if isinstance(self.held, set | bytearray):
            return None if self.held == self.saved else self.path
        if len(self.held) == len(self.saved) and all(map(is_, self.held, self.saved)):
            return None
        return None if same(list(self.held), self.saved) else self.path


class Array(Place[np.ndarray]):
    """The entries of a NumPy array."""

    def __init__(self, path: str, held: np.ndarray):
        self.path, self.held, self.saved = path, held, held.copy()

    def read(self) -> np.ndarray:
        return self.held.copy()

    def write(self, content: np.ndarray) -> None:
        if self.held.flags.writeable:
            self.held[...] = content

    def difference(self) -> str | None:
        if self.held.dtype.hasobject:
            return None if same(self.held.tolist(), self.saved.tolist()) else self.path
        alike = (
            self.held.shape == self.saved.shape
            and np.ascontiguousarray(self.held).tobytes() == self.saved.tobytes()
        )
        return None if alike else self.path


class Value(Place[Content]):
    """The value that a function gives, such as the content of a closure's variable.

    Args:
        get: gives the value.
        put: puts one back; None where that cannot be done.
    """

    def __init__(
        self, path: str, get: Callable[[], Content], put: Callable[[Content], PythonValue] | None = None
    ):
        self.path, self.get, self.put = path, get, put
        self.saved = self.get()

    def read(self) -> Content:
        return self.get()

    def write(self, content: Content) -> None:
        if self.put is not None and self.get() is not content:
            self.put(content)


class State(Place[Content]):
    """The state of an object that has functions to get and to set it, such as a random generator."""

    def __init__(self, path: str, get: Callable[[], Content], put: Callable[[Content], PythonValue]):
        self.path, self.get, self.put = path, get, put
        self.saved = self.get()

    def read(self) -> Content:
        return self.get()

    def write(self, content: Content) -> None:
        if not _equal(self.get(), content):
            self.put(content)

    def difference(self) -> str | None:
        return None if _equal(self.get(), self.saved) else self.path


class Pickled(Place[bytes]):
    """An object of an unknown kind, by its pickle. It cannot be put back.

    Raises:
        Unknown: the object cannot be pickled, or is too large to be compared often.
    """

    def __init__(self, path: str, held: PythonValue):
        self.path, self.held = path, held
        self.saved = self.read()

    def read(self) -> bytes:
        try:
            target = _Bounded()
            pickle.Pickler(target, protocol=5).dump(self.held)
        except Exception as error:  # an object's own code may raise anything
            raise Unknown(f"{self.path} is a {type(self.held).__name__}, which cannot be watched") from error
        return target.getvalue()

    def write(self, content: bytes) -> None:
        pass


class Tensors(Place[list[tuple[torch.Tensor, bool]]]):
    """For many tensors at once, everything but their values that makes a recorded graph invalid."""

    def __init__(self) -> None:
        self.path, self.saved = "a tensor", []
        self.held: list[tuple[str, torch.Tensor]] = []

    def add(self, path: str, tensor: torch.Tensor) -> None:
        self.held.append((path, tensor))
        self.saved.append(tracing.tensor_state(tensor))

    def read(self) -> list[tuple[torch.Tensor, bool]]:
        return [(tensor.detach().clone(), tensor.requires_grad) for _, tensor in self.held]

    def write(self, content: list[tuple[torch.Tensor, bool]]) -> None:
        for (_, tensor), (values, trained) in zip(self.held, content, strict=True):
            if tensor.shape == values.shape and not tensor.is_sparse and not torch.equal(tensor, values):
                tensor.detach().copy_(values)
            if tensor.requires_grad != trained and tensor.is_leaf:
                tensor.requires_grad_(trained)

    def difference(self) -> str | None:
        now = [tracing.tensor_state(tensor) for _, tensor in self.held]
        if now == self.saved:
            return None
        return next(path for (path, _), a, b in zip(self.held, now, self.saved, strict=True) if a != b)


class _Bounded(io.BytesIO):
    """A file in memory that refuses to grow beyond a size."""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if self.tell() + len(data) > _MOST_PICKLED:
            raise Unknown("too large")
        return super().write(data)


def _equal(one: PythonValue, state: PythonValue) -> bool:
    """Whether two states of one object, of plain values, tensors and arrays, are equal."""
    other: Any = state
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, Sequence) and not isinstance(one, str | bytes):
        return len(one) == len(other) and all(map(_equal, one, other))
    return same(one, other)
