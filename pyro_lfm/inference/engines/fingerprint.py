"""What a program's behaviour may hang on beside its tensors' values: plain values held by its modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

# What every module has, and which says nothing of what it does.
_OWN = vars(torch.nn.Module()).keys() - {"training"}
_PLAIN = (bool, int, float, complex, str, bytes, type(None))


@dataclass(frozen=True)
class Held:
    """A tensor, by its identity."""

    number: int


def fingerprint(*parts: Any) -> dict[str, Any]:
    """The plain attributes of modules and objects by path, and which tensor stands where.

    >>> layer = torch.nn.Dropout(0.1)
    >>> before = fingerprint(layer)
    >>> layer.p = 0.2
    >>> changed(before, fingerprint(layer))
    '0.p'
    """
    found: dict[str, Any] = {}
    for k, part in enumerate(parts):
        if isinstance(part, torch.nn.Module):
            for path, module in part.named_modules():
                _look(found, f"{k}.{path}." if path else f"{k}.", vars(module))
        else:
            _look(found, f"{k}.", vars(part))
    return found


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The paths at which two fingerprints differ."""
    absent = object()
    return [path for path in {**before, **after} if before.get(path, absent) != after.get(path, absent)]


def changed(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    """The first of them."""
    return next(iter(changes(before, after)), None)


def is_plain(value: Any) -> bool:
    return isinstance(value, _PLAIN)


def plain_values(*modules: torch.nn.Module) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The attributes of every module inside these, and a copy of those that are plain values."""
    every = [vars(inner) for module in modules for inner in module.modules()]
    return [(attributes, {n: v for n, v in attributes.items() if is_plain(v)}) for attributes in every]


def _look(found: dict[str, Any], path: str, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if name in _OWN:
            continue
        if isinstance(value, _PLAIN):
            found[path + name] = value
        elif isinstance(value, torch.Tensor):
            found[path + name] = Held(id(value))
        elif isinstance(value, list | tuple) and all(isinstance(entry, _PLAIN) for entry in value):
            found[path + name] = tuple(value)
        elif isinstance(value, dict):
            _look(found, f"{path}{name}.", {str(key): entry for key, entry in value.items()})
