"""Words and digests of every value that some arguments hold, for checkpoints and folders of comparisons."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from pyro_lfm.identity.code_digests import attributes, holds, is_library, of_code, reads, written

RandomGenerator: TypeAlias = (
    torch.Generator | random.Random | np.random.RandomState | np.random.Generator | np.random.BitGenerator
)
_GENERATORS = get_args(RandomGenerator)
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, np.generic)


def identity_of(*, weights: bool = True, **arguments: Any) -> dict[str, str]:
    """Every value that some arguments hold, {path: words or digest}. It is the same in another process.

    Functions and classes that the user wrote are compared by their code and by the globals that the code reads. Modules, and
    functions and classes of installed packages, are compared by name. A class names in
    ``not_identity`` the attributes that change as it is used, and in ``moved_by_fits`` those that fits change as they change
    trainable parameters.

    Args:
        weights: whether the values of trainable parameters, and of attributes ``moved_by_fits``, count, or only their
            shapes.

    >>> one, other = identity_of(rate=0.1, of=torch.zeros(2)), identity_of(rate=0.1, of=torch.ones(2))
    >>> [path for path in one if one[path] != other[path]]
    ['of']
    """
    walk = _Walk(weights)
    for name, value in arguments.items():
        walk.visit(name, value)
    return walk.words_by_path


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """The paths at which two identities differ, in the order of the first.

    >>> differences({"rate": "1", "of": "2"}, {"rate": "3", "of": "2"})
    ['rate']
    """
    return [path for path in {**one, **other} if one.get(path) != other.get(path)]


class _Held(NamedTuple):
    """A value that some arguments hold, and the path to it."""

    path: str
    value: Any


@dataclass
class _Walk:
    """Visits values and all that they hold, and keeps the words for each under its path."""

    weights: bool
    words_by_path: dict[str, str] = field(default_factory=dict)
    # By id, the path and the object itself, so that its id is not given to another object.
    seen: dict[int, tuple[str, Any]] = field(default_factory=dict)

    def visit(self, path: str, value: object) -> None:
        held = _Held(path, value)
        words = self._in_words(held)
        if words is not None:
            self.words_by_path[path] = words
        elif isinstance(value, tuple):  # Python may or may not make one object of two equal tuples
            for k, entry in enumerate(value):
                self.visit(f"{path}.{k}", entry)
        elif id(value) in self.seen:
            self.words_by_path[path] = f"as {self.seen[id(value)][0]}"
        else:
            self.seen[id(value)] = (path, value)
            if isinstance(value, Mapping | list) and not is_library(type(value)):
                self.visit(f"{path}.class", type(value))
            self._visit_parts(held)

    def _in_words(self, held: _Held) -> str | None:
        """The words for a value that holds no others; None for one that does."""
        value = held.value
        if isinstance(value, _PLAIN):
            return repr(value)
        if isinstance(value, Tensor):
            moves = not self.weights and isinstance(value, torch.nn.Parameter) and value.requires_grad
            return f"trained {_shape(value)}" if moves else _of_tensor(value)
        if isinstance(value, np.ndarray):
            return _of_array(value)
        if isinstance(value, _GENERATORS) and not isinstance(value, random.SystemRandom):
            return _of_generator(value)
        if isinstance(value, ModuleType):
            return f"module {value.__name__}"
        if isinstance(value, logging.Logger):
            return f"logger {value.name}"
        if isinstance(value, Mapping | tuple | list) and not value:
            return f"empty {type(value).__qualname__}"
        return None

    def _visit_parts(self, held: _Held) -> None:
        path, value = held
        if isinstance(value, Mapping):
            self._mapping(held)
        elif isinstance(value, set | frozenset):
            self.words_by_path[path] = str(sorted(map(self._entry, value)))
        elif isinstance(value, list):
            for k, entry in enumerate(value):
                self.visit(f"{path}.{k}", entry)
        elif isinstance(value, type):
            self._class(path, value)
        elif isinstance(value, BuiltinFunctionType):
            self.words_by_path[path] = f"{value.__module__}.{value.__qualname__}"
        elif isinstance(value, MethodType):
            self.visit(path, value.__func__)
            self.visit(f"{path}.self", value.__self__)
        elif isinstance(value, FunctionType):
            self._function(path, value)
        elif isinstance(value, partial):
            self.words_by_path[path] = "partial"
            self.visit(f"{path}.function", value.func)
            self.visit(f"{path}.arguments", value.args)
            self.visit(f"{path}.keywords", value.keywords)
        else:
            self._object(held)

    def _mapping(self, held: _Held) -> None:
        path, value = held
        for k, (key, entry) in enumerate(value.items()):
            plain = isinstance(key, _PLAIN)
            if not plain:
                self.visit(f"{path}.key {k}", key)
            self.visit(f"{path}.{key if plain else k}", entry)

    def _function(self, path: str, value: FunctionType) -> None:
        self.words_by_path[path] = f"function {value.__qualname__} {of_code(value.__code__)}"
        for k, entry in enumerate(holds(value)):
            self.visit(f"{path}.holds.{k}", entry)
        if not is_library(value):
            for name, entry in reads(value).items():
                self.visit(f"{path}.reads.{name}", entry)

    def _class(self, path: str, value: type) -> None:
        if is_library(value):
            self.words_by_path[path] = f"{value.__module__}.{value.__qualname__}"
            return
        self.words_by_path[path] = f"class {value.__qualname__}"
        for name, entry in written(value).items():
            self.visit(f"{path}.{name}", entry)

    def _object(self, of: _Held) -> None:
        path, value = of
        kind = type(value)
        self.words_by_path[path] = kind.__qualname__
        left_out = getattr(kind, "not_identity", ())
        held = {name: entry for name, entry in attributes(value).items() if name not in left_out}
        if not is_library(kind):
            self.visit(f"{path}.class", kind)
        elif not held:
            # Such as a range, a date or a function of NumPy. An address in a repr differs from process to process.
            words = repr(value)
            self.words_by_path[path] = kind.__qualname__ if "0x" in words else f"{kind.__qualname__} {words}"
        wrapped = vars(value).get("__wrapped__") if hasattr(value, "__dict__") else None
        if callable(value) and isinstance(wrapped, FunctionType):
            self.visit(f"{path}.wrapped", wrapped)
        moved = () if self.weights else getattr(kind, "moved_by_fits", ())
        for name, entry in held.items():
            if name in moved:
                self.words_by_path[f"{path}.{name}"] = f"moved {_shape(entry)}"
            else:
                self.visit(f"{path}.{name}", entry)

    def _entry(self, value: object) -> str:
        """The words for an entry of a set, whose position means nothing."""
        if isinstance(value, _PLAIN):
            return repr(value)
        inner = _Walk(self.weights, {}, dict(self.seen))
        inner.visit("", value)
        return str(inner.words_by_path)


def _of_generator(generator: RandomGenerator) -> str:
    """A digest of the state of a random generator."""
    if isinstance(generator, torch.Generator):
        state: Any = generator.get_state().tolist()
    elif isinstance(generator, random.Random):
        state = generator.getstate()
    elif isinstance(generator, np.random.RandomState):
        state = [part.tolist() if isinstance(part, np.ndarray) else part for part in generator.get_state()]
    else:
        bits: Any = getattr(generator, "bit_generator", generator)
        state = {name: np.asarray(part).tolist() for name, part in bits.state.items()}
    return f"{type(generator).__qualname__} {hashlib.sha256(repr(state).encode()).hexdigest()[:16]}"


def _of_array(value: np.ndarray) -> str:
    raw = repr(value.tolist()).encode() if value.dtype.hasobject else np.ascontiguousarray(value).tobytes()
    return f"{value.dtype} {value.shape} {hashlib.sha256(raw).hexdigest()[:16]}"


def _shape(value: Tensor) -> str:
    return f"{value.dtype} {tuple(value.shape)}"


def _of_tensor(value: Tensor) -> str:
    words = _shape(value)
    if not value.numel():
        return words
    dense = (
        (value.detach() if value.layout == torch.strided else value.detach().to_dense()).cpu().resolve_conj()
    )
    # A tensor of one entry counts as contiguous whatever its stride, but view needs a stride of one.
    raw = dense.resolve_neg().clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8)
    return f"{words} {hashlib.sha256(raw.numpy().tobytes()).hexdigest()[:16]}"
