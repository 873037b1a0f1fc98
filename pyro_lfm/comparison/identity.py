"""What a comparison was made of, in words and digests, so that other arguments are noticed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pyro_lfm.data.readers import Table

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)


def identity(**arguments: Any) -> dict[str, str]:
    """Every value that some arguments hold, by path: the same in another process, another wherever a value differs.

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


def _walk(found: dict[str, str], path: str, value: Any, seen: dict[int, str]) -> None:
    if isinstance(value, _PLAIN):
        found[path] = repr(value)
        return
    if isinstance(value, Tensor):
        found[path] = _of_tensor(value)
        return
    if isinstance(value, np.ndarray):
        found[path] = _of_tensor(torch.as_tensor(np.ascontiguousarray(value)))
        return
    if id(value) in seen:
        found[path] = f"as {seen[id(value)]}"
        return
    seen[id(value)] = path
    if isinstance(value, Mapping):
        for key, entry in value.items():
            _walk(found, f"{path}.{key}", entry, seen)
    elif isinstance(value, set | frozenset):
        found[path] = str(sorted(map(repr, value)))
    elif isinstance(value, list | tuple):
        for k, entry in enumerate(value):
            _walk(found, f"{path}.{k}", entry, seen)
    elif isinstance(value, type | BuiltinFunctionType):
        found[path] = f"{value.__module__}.{value.__qualname__}"
    elif isinstance(value, MethodType):
        _walk(found, path, value.__func__, seen)
        _walk(found, f"{path}.self", value.__self__, seen)
    elif isinstance(value, FunctionType):
        found[path] = f"function {value.__qualname__} {_of_code(value.__code__)}"
        held = {str(k): cell.cell_contents for k, cell in enumerate(value.__closure__ or ())}
        _walk(found, f"{path}.holds", [*held.values(), *(value.__defaults__ or ())], seen)
    else:
        _walk_object(found, path, value, seen)


def _walk_object(found: dict[str, str], path: str, value: Any, seen: dict[int, str]) -> None:
    found[path] = type(value).__qualname__
    attributes = dict(getattr(value, "__dict__", {}))
    if isinstance(value, nn.Module):
        attributes |= value._parameters | value._buffers | value._modules
        attributes.pop("training", None)
    for name, entry in attributes.items():
        if not name.startswith("_"):
            _walk(found, f"{path}.{name}", entry, seen)


def _of_tensor(value: Tensor) -> str:
    raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8) if value.numel() else torch.empty(0)
    return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(raw.numpy().tobytes()).hexdigest()[:16]}"


def _of_code(code: CodeType) -> str:
    digest = hashlib.sha256(code.co_code)
    for constant in code.co_consts:
        # The order of a set is another in every process.
        words = sorted(map(repr, constant)) if isinstance(constant, frozenset) else repr(constant)
        digest.update((_of_code(constant) if isinstance(constant, CodeType) else str(words)).encode())
    digest.update(repr(code.co_names).encode())
    return digest.hexdigest()[:16]
