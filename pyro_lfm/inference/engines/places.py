"""Places in memory where a value can change, for ``Heap``: each can be read, compared with what it was, and put back."""

from __future__ import annotations

import io
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable
from operator import is_
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from pyro_lfm.inference.engines import tracing
from pyro_lfm.inference.engines.nodes import Node, equal_states, same
from pyro_lfm.inference.engines.reads import ReadNames
from pyro_lfm.probes import Undo

_ABSENT = object()
# The most bytes of the pickled state of an object of an unknown kind that is watched.
_MOST_PICKLED = 2**20

# The value that the function of a ``Value`` gives.
Content = TypeVar("Content")


class Unknown(Exception):
    """An object whose state cannot be watched."""


class Place(ABC):
    """A place whose content can change. ``saved`` is the content at the last look."""

    path: str
    saved: Any

    @abstractmethod
    def read(self) -> Any:
        """The content now; a copy, if it can change in place."""

    @abstractmethod
    def undo(self) -> Undo:
        """The function that puts the present content back."""

    def difference(self) -> str | None:
        """The path of a value that is no longer as it was; None where none has changed."""
        return None if same(self.read(), self.saved) else self.path


class Names(Place):
    """Values by name: the entries of a dict, the attributes of an object, the globals of a module.

    Args:
        node: the mapping itself, a dict or the view of one.
        names_read: which names count.
        whole: whether all of the mapping may be put back, and not only the names that count.
        owner: the class of the object whose attributes these are.
    """

    def __init__(
        self,
        node: Node,
        names_read: ReadNames,
        whole: bool = True,
        owner: type | None = None,
    ):
        self.path, self.held = node
        self.names_read, self.whole, self.owner = names_read, whole, owner
        self.volatile: set[str] = set()
        self.saved = self.read()

    def read(self) -> dict[str, Any]:
        if self.whole:
            return dict(self.held)
        return {name: value for name, value in self.held.items() if self.names_read.counts(name, value)}

    def undo(self) -> Undo:
        content = self.read()

        def put_back() -> None:
            now = self.read()
            if now.keys() == content.keys() and all(map(is_, now.values(), content.values())):
                return
            for name in now.keys() - content.keys():
                del self.held[name]
            self.held.update(content)
            if self.whole and list(self.held) != list(content):
                self.held.clear()
                self.held.update(content)

        return put_back

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
        super().__init__(Node(path, vars(kind)), names_read, whole=False)

    def undo(self) -> Undo:
        content = self.read()

        def put_back() -> None:
            now = self.read()
            for name in now.keys() - content.keys():
                delattr(self.kind, name)
            for name, value in content.items():
                if now.get(name, _ABSENT) is not value:
                    setattr(self.kind, name, value)

        return put_back


class Items(Place):
    """The entries of a list, a deque, a set or a bytearray."""

    def __init__(self, node: Node):
        self.path, self.held = node
        self.saved = self.read()

    def read(self) -> Any:
        return self.held.copy() if isinstance(self.held, set | bytearray) else list(self.held)

    def undo(self) -> Undo:
        content = self.read()

        def put_back() -> None:
            if isinstance(self.held, list | bytearray):
                self.held[:] = content
                return
            self.held.clear()
            if isinstance(self.held, set):
                self.held.update(content)
            else:
                self.held.extend(content)

        return put_back

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

    def undo(self) -> Undo:
        content = self.read()

        def put_back() -> None:
            if self.held.flags.writeable:
                self.held[...] = content

        return put_back

    def difference(self) -> str | None:
        if self.held.dtype.hasobject:
            return None if same(self.held.tolist(), self.saved.tolist()) else self.path
        alike = (
            self.held.shape == self.saved.shape
            and np.ascontiguousarray(self.held).tobytes() == self.saved.tobytes()
        )
        return None if alike else self.path


class Value(Place, Generic[Content]):
    """The value that a function gives, such as the content of a closure's variable.

    Args:
        get: gives the value.
        put: puts one back; None where that cannot be done.
    """

    def __init__(self, path: str, get: Callable[[], Content], put: Callable[[Content], None] | None = None):
        self.path, self.get, self.put = path, get, put
        self.saved = self.get()

    def read(self) -> Any:
        return self.get()

    def undo(self) -> Undo:
        content = self.get()

        def put_back() -> None:
            if self.put is not None and self.get() is not content:
                self.put(content)

        return put_back


class State(Value[Content]):
    """The state of an object that has functions to get and to set it, such as a random generator."""

    def undo(self) -> Undo:
        content = self.read()

        def put_back() -> None:
            if self.put is not None and not equal_states(self.read(), content):
                self.put(content)

        return put_back

    def difference(self) -> str | None:
        return None if equal_states(self.read(), self.saved) else self.path


class Pickled(Place):
    """An object of an unknown kind, by its pickle. It cannot be put back.

    Raises:
        Unknown: the object cannot be pickled, or is too large to be compared often.
    """

    def __init__(self, node: Node):
        self.path, self.held = node
        self.saved = self.read()

    def read(self) -> bytes:
        try:
            target = _Bounded()
            pickle.Pickler(target, protocol=5).dump(self.held)
        except Exception as error:  # an object's own code may raise anything
            raise Unknown(f"{self.path} is a {type(self.held).__name__}, which cannot be watched") from error
        return target.getvalue()

    def undo(self) -> Undo:
        return lambda: None


class Tensors(Place):
    """For many tensors at once, everything but their values that makes a recorded graph invalid."""

    def __init__(self) -> None:
        self.path, self.saved = "a tensor", []
        self.held: list[tuple[str, torch.Tensor]] = []

    def add(self, path: str, tensor: torch.Tensor) -> None:
        self.held.append((path, tensor))
        self.saved.append(tracing.tensor_state(tensor))

    def read(self) -> list[tuple[torch.Tensor, bool]]:
        return [(tensor.detach().clone(), tensor.requires_grad) for _, tensor in self.held]

    def undo(self) -> Undo:
        content = self.read()

        def put_back() -> None:
            for (_, tensor), (values, trained) in zip(self.held, content, strict=True):
                if tensor.shape == values.shape and not tensor.is_sparse and not torch.equal(tensor, values):
                    tensor.detach().copy_(values)
                if tensor.requires_grad != trained and tensor.is_leaf:
                    tensor.requires_grad_(trained)

        return put_back

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
