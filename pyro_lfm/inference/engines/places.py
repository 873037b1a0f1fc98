"""Places in memory where a value can change: each can be read, held against what it was, and put back."""

from __future__ import annotations

import io
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from operator import is_
from typing import Any

import numpy as np
import torch

from pyro_lfm.inference.engines import tracing
from pyro_lfm.inference.engines.reads import Asked

PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic, torch.dtype, torch.device)
_ABSENT = object()
# Bytes of the state of an object of an unknown kind, beyond which it is not watched.
_MOST_PICKLED = 2**20


class Unknown(Exception):
    """An object whose state cannot be looked at."""


def same(one: Any, other: Any) -> bool:
    """Whether two values are one object, or equal and plain through and through.

    >>> same([1, "a"], [1, "a"]), same(1, 1.0), same(float("nan"), float("nan"))
    (True, False, True)
    """
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, PLAIN):
        return bool(one == other) or bool(one != one and other != other)
    if type(one) in (list, tuple, torch.Size):
        return len(one) == len(other) and all(map(same, one, other))
    if type(one) is dict:
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return False


class Place(ABC):
    """Something that can change. ``saved`` is what was there when it was last looked at."""

    path: str
    saved: Any

    @abstractmethod
    def read(self) -> Any:
        """What is there now; a copy, if it can change in place."""

    @abstractmethod
    def write(self, content: Any) -> None:
        """Puts back what was read."""

    def difference(self) -> str | None:
        """The path of what is no longer as it was."""
        return None if same(self.read(), self.saved) else self.path


class Names(Place):
    """Values by name: of a dict, of the attributes of an object, of the globals of a module.

    Args:
        held: the mapping itself.
        asked: which of them count.
        whole: whether all of it may be put back, and not only the names that count.
        owner: the class of the object whose attributes these are.
    """

    def __init__(
        self,
        path: str,
        held: Any,
        asked: Asked,
        whole: bool = True,
        owner: type | None = None,
    ):
        self.path, self.held, self.asked, self.whole, self.owner = path, held, asked, whole, owner
        self.volatile: set[str] = set()
        self.saved = self.read()

    def read(self) -> dict[str, Any]:
        if self.whole:
            return dict(self.held)
        return {name: value for name, value in self.held.items() if self.asked.counts(name, value)}

    def write(self, content: dict[str, Any]) -> None:
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
            and self.asked.counts(name, now.get(name), then.get(name))
        ]

    def difference(self) -> str | None:
        return next((f"{self.path}.{name}" for name in self.changes()), None)


class OfClass(Names):
    """What stands in a class that the user wrote."""

    def __init__(self, path: str, kind: type, asked: Asked):
        self.kind = kind
        super().__init__(path, vars(kind), asked, whole=False)

    def write(self, content: dict[str, Any]) -> None:
        now = self.read()
        for name in now.keys() - content.keys():
            delattr(self.kind, name)
        for name, value in content.items():
            if now.get(name, _ABSENT) is not value:
                setattr(self.kind, name, value)


class Items(Place):
    """The entries of a list, a deque, a set or a bytearray."""

    def __init__(self, path: str, held: Any):
        self.path, self.held, self.saved = path, held, None
        self.saved = self.read()

    def read(self) -> Any:
        return self.held.copy() if isinstance(self.held, set | bytearray) else list(self.held)

    def write(self, content: Any) -> None:
        if isinstance(self.held, set):
            self.held.clear()
            self.held.update(content)
        elif isinstance(self.held, list | bytearray):
            self.held[:] = content
        else:
            self.held.clear()
            self.held.extend(content)

    def difference(self) -> str | None:
        if isinstance(self.held, set | bytearray):
            return None if self.held == self.saved else self.path
        if len(self.held) == len(self.saved) and all(map(is_, self.held, self.saved)):
            return None
        return None if same(list(self.held), self.saved) else self.path


class Array(Place):
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


class Value(Place):
    """What some function gives, such as the content of a closure's variable."""

    def __init__(self, path: str, get: Callable[[], Any], put: Callable[[Any], Any] | None):
        self.path, self.get, self.put = path, get, put
        self.saved = self.get()

    def read(self) -> Any:
        return self.get()

    def write(self, content: Any) -> None:
        if self.put is not None and self.get() is not content:
            self.put(content)


class State(Place):
    """Anything with a function that gives its state, such as a generator of random numbers."""

    def __init__(self, path: str, get: Callable[[], Any], put: Callable[[Any], Any]):
        self.path, self.get, self.put = path, get, put
        self.saved = self.get()

    def read(self) -> Any:
        return self.get()

    def write(self, content: Any) -> None:
        if not _equal(self.get(), content):
            self.put(content)

    def difference(self) -> str | None:
        return None if _equal(self.get(), self.saved) else self.path


class Pickled(Place):
    """An object of a kind that is not known, by what pickle says of it. It cannot be put back.

    Raises:
        Unknown: it cannot be pickled, or is too large to be looked at often.
    """

    def __init__(self, path: str, held: Any):
        self.path, self.held = path, held
        self.saved = self.read()

    def read(self) -> bytes:
        try:
            target = _Bounded()
            pickle.Pickler(target, protocol=5).dump(self.held)
        except Exception as error:  # whatever an object's own code may raise
            raise Unknown(f"{self.path} is a {type(self.held).__name__}, which cannot be watched") from error
        return target.getvalue()

    def write(self, content: bytes) -> None:
        pass


class Tensors(Place):
    """What else than its values makes a tensor another for a graph, for many tensors at once."""

    def __init__(self) -> None:
        self.path, self.saved = "a tensor", []
        self.held: list[tuple[str, torch.Tensor]] = []

    def add(self, path: str, tensor: torch.Tensor) -> None:
        self.held.append((path, tensor))
        self.saved.append(tracing.tensor_state(tensor))

    def read(self) -> Any:
        return [(tensor.detach().clone(), tensor.requires_grad) for _, tensor in self.held]

    def write(self, content: Any) -> None:
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
    def write(self, data: Any) -> int:
        if self.tell() + len(data) > _MOST_PICKLED:
            raise Unknown("too large")
        return super().write(data)


def _equal(one: Any, other: Any) -> bool:
    """Whether two states, of plain values, tensors and arrays, are equal."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, Sequence) and not isinstance(one, str | bytes):
        return len(one) == len(other) and all(map(_equal, one, other))
    return same(one, other)
