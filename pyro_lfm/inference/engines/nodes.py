"""``Node``, an object on the way of a ``Walk``, and whether two values are the same, for the places of a ``Heap``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
import torch

PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic, torch.dtype, torch.device)
# The state of a random generator, of torch, Python or NumPy.
GeneratorState: TypeAlias = (
    "torch.Tensor | np.ndarray | Mapping[str, GeneratorState] | Sequence[GeneratorState] | str | float | None"
)


class Node(NamedTuple):
    """A Python object, and the path by which code reaches it."""

    path: str
    value: Any


def same(one: object, other: object) -> bool:
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
        entries = cast(Sequence[Any], other)
        return len(one) == len(entries) and all(map(same, one, entries))
    if type(one) is dict:
        twin = cast(dict[Any, Any], other)
        return one.keys() == twin.keys() and all(same(one[key], twin[key]) for key in one)
    return False


def equal_states(one: GeneratorState, state: GeneratorState) -> bool:
    """Whether two states of one generator are equal."""
    other: Any = state
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(equal_states(one[key], other[key]) for key in one)
    if isinstance(one, Sequence) and not isinstance(one, str | bytes):
        return len(one) == len(other) and all(map(equal_states, one, other))
    return same(one, other)
