"""What a comparison was made of, in words and digests, so that other arguments are noticed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_lfm.comparison.code import attributes, holds, is_library, of_code, reads, written
from pyro_lfm.data.readers import Table
from pyro_lfm.inference.result import Fit

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, np.generic)
# What was met, by its id: where, and itself, as the id of what is gone is given to something else.
_Seen = dict[int, tuple[str, Any]]


def identity(**arguments: Any) -> dict[str, str]:
    """Every value that some arguments hold, by path: the same in another process, another wherever a value differs.

    Functions and classes that the user wrote are known by their code and by the globals that they read, whose modules are
    known by name alone; those of installed packages by name.

    >>> one, other = identity(rate=0.1, of=torch.zeros(2)), identity(rate=0.1, of=torch.ones(2))
    >>> [path for path in one if one[path] != other[path]]
    ['of']
    """
    found: dict[str, str] = {}
    for name, value in arguments.items():
        _walk(found, name, value, {})
    return found


def of_rows(table: Table) -> str:
    """A digest of all rows of a table."""
    digest = hashlib.sha256()
    for index in table.blocks():
        for name, value in table.take(index, torch.float64).items():
            digest.update(name.encode())
            digest.update(value.contiguous().numpy().tobytes())
    return f"{len(table)} rows of {', '.join(table.names)}, {digest.hexdigest()[:16]}"


def _walk(found: dict[str, str], path: str, value: Any, seen: _Seen) -> None:
    if isinstance(value, _PLAIN):
        found[path] = repr(value)
        return
    if isinstance(value, Tensor):
        found[path] = _of_tensor(value)
        return
    if isinstance(value, np.ndarray):
        found[path] = _of_array(value)
        return
    if isinstance(value, ModuleType):
        found[path] = f"module {value.__name__}"
        return
    if isinstance(value, logging.Logger):
        found[path] = f"logger {value.name}"
        return
    if isinstance(value, Mapping | tuple | list) and not value:
        found[path] = f"empty {type(value).__qualname__}"
        return
    if isinstance(value, tuple):  # two that are equal may be one, or not, as Python likes
        for k, entry in enumerate(value):
            _walk(found, f"{path}.{k}", entry, seen)
        return
    if id(value) in seen:
        found[path] = f"as {seen[id(value)][0]}"
        return
    seen[id(value)] = (path, value)
    if isinstance(value, Mapping | list) and not is_library(type(value)):
        _walk(found, f"{path}.class", type(value), seen)
    if isinstance(value, Mapping):
        for k, (key, entry) in enumerate(value.items()):
            plain = isinstance(key, _PLAIN)
            if not plain:
                _walk(found, f"{path}.key {k}", key, seen)
            _walk(found, f"{path}.{key if plain else k}", entry, seen)
    elif isinstance(value, set | frozenset):
        found[path] = str(sorted(_of_entry(entry, seen) for entry in value))
    elif isinstance(value, list):
        for k, entry in enumerate(value):
            _walk(found, f"{path}.{k}", entry, seen)
    elif isinstance(value, type):
        _walk_class(found, path, value, seen)
    elif isinstance(value, BuiltinFunctionType):
        found[path] = f"{value.__module__}.{value.__qualname__}"
    elif isinstance(value, MethodType):
        _walk(found, path, value.__func__, seen)
        _walk(found, f"{path}.self", value.__self__, seen)
    elif isinstance(value, FunctionType):
        _walk_function(found, path, value, seen)
    elif isinstance(value, partial):
        found[path] = "partial"
        _walk(found, f"{path}.function", value.func, seen)
        _walk(found, f"{path}.arguments", value.args, seen)
        _walk(found, f"{path}.keywords", value.keywords, seen)
    else:
        _walk_object(found, path, value, seen)


def _walk_function(found: dict[str, str], path: str, value: FunctionType, seen: _Seen) -> None:
    found[path] = f"function {value.__qualname__} {of_code(value.__code__)}"
    for k, entry in enumerate(holds(value)):
        _walk(found, f"{path}.holds.{k}", entry, seen)
    if not is_library(value):
        for name, entry in reads(value).items():
            _walk(found, f"{path}.reads.{name}", entry, seen)


def _walk_class(found: dict[str, str], path: str, value: type, seen: _Seen) -> None:
    if is_library(value):
        found[path] = f"{value.__module__}.{value.__qualname__}"
        return
    found[path] = f"class {value.__qualname__}"
    for name, entry in written(value).items():
        _walk(found, f"{path}.{name}", entry, seen)


def _walk_object(found: dict[str, str], path: str, value: Any, seen: _Seen) -> None:
    kind = type(value)
    found[path] = kind.__qualname__
    held = attributes(value)
    if isinstance(value, Fit):
        held.pop("history")  # with seconds, which are others every time
    if not is_library(kind):
        _walk(found, f"{path}.class", kind, seen)
    elif not held:
        # Such as a range, a date or a function of NumPy; addresses are others in every process.
        words = repr(value)
        found[path] = kind.__qualname__ if "0x" in words else f"{kind.__qualname__} {words}"
    if callable(value) and isinstance(
        vars(value).get("__wrapped__") if hasattr(value, "__dict__") else None, FunctionType
    ):
        _walk(found, f"{path}.wrapped", value.__wrapped__, seen)
    for name, entry in held.items():
        _walk(found, f"{path}.{name}", entry, seen)


def _of_entry(value: Any, seen: _Seen) -> str:
    """An entry of a set, whose place in it tells nothing."""
    if isinstance(value, _PLAIN):
        return repr(value)
    found: dict[str, str] = {}
    _walk(found, "", value, dict(seen))
    return str(found)


def _of_array(value: np.ndarray) -> str:
    raw = repr(value.tolist()).encode() if value.dtype.hasobject else np.ascontiguousarray(value).tobytes()
    return f"{value.dtype} {value.shape} {hashlib.sha256(raw).hexdigest()[:16]}"


def _of_tensor(value: Tensor) -> str:
    words = f"{value.dtype} {tuple(value.shape)}"
    if not value.numel():
        return words
    dense = (
        (value.detach() if value.layout == torch.strided else value.detach().to_dense()).cpu().resolve_conj()
    )
    # Of one entry any stride counts as contiguous, and view asks for a stride of one.
    raw = dense.resolve_neg().clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8)
    return f"{words} {hashlib.sha256(raw.numpy().tobytes()).hexdigest()[:16]}"
