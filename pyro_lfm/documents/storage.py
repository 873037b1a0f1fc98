"""Files of tensors and plain values: written whole or not at all, read without running code."""

from __future__ import annotations

import numbers
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyro_lfm.errors import DataError, DeclarationError

_SCALARS = (bool, int, float, complex, str, bytes)


def plain(value: Any, where: str) -> Any:
    """The value made of what a file can hold: tensors, numbers, strings, None, and lists, tuples and dicts of them.

    Numbers of NumPy become Python's, its arrays tensors. A part of a large tensor becomes a tensor of its own.

    Args:
        where: what it is, for the error.

    Raises:
        DeclarationError: a value of another kind.

    >>> import numpy as np
    >>> plain({"score": np.float32(0.5), "rows": (np.arange(2),)}, "the record")
    {'score': 0.5, 'rows': (tensor([0, 1]),)}
    """
    if value is None or type(value) in _SCALARS or isinstance(value, torch.dtype | torch.device):
        return value
    if isinstance(value, torch.Tensor):
        return _own(value, where)
    if isinstance(value, np.generic | np.ndarray):
        return _of_numpy(value, where)
    if isinstance(value, Mapping):
        return {_key(key, where): plain(entry, f"{where}[{key!r}]") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        entries = [plain(entry, f"{where}[{k}]") for k, entry in enumerate(value)]
        return entries if isinstance(value, list) else tuple(entries)
    if isinstance(value, set | frozenset):
        return {plain(entry, where) for entry in value}
    kind: Any
    for kind in _SCALARS[1:]:  # a subclass, such as an enumeration's member
        if isinstance(value, kind):
            return str.__str__(value) if kind is str else kind(value)
    if isinstance(value, numbers.Real):
        return float(value)
    raise _refused(where, value)


def _own(value: torch.Tensor, where: str) -> torch.Tensor:
    if type(value) not in (torch.Tensor, torch.nn.Parameter) or value.device.type == "meta":
        raise _refused(where, value)
    value = value.detach()
    if value.layout != torch.strided:
        return value
    small = value.numel() * value.element_size() < value.untyped_storage().nbytes()
    return value.clone() if small else value


def _of_numpy(value: Any, where: str) -> Any:
    if isinstance(value, np.ma.MaskedArray) or value.dtype.kind not in "biufcSU":
        raise _refused(where, value)
    if isinstance(value, np.generic) or value.dtype.kind in "SU":
        return plain(value.tolist() if isinstance(value, np.ndarray) else _scalar(value), where)
    try:
        return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C"))
    except TypeError:  # a type that torch lacks
        raise _refused(where, value) from None


def _scalar(value: np.generic) -> Any:
    """As Python's own; of extended precision, which Python lacks, as a double."""
    found = value.item()
    return float(value) if isinstance(found, np.generic) else found  # type: ignore[arg-type]


def _key(key: Any, where: str) -> Any:
    found = plain(key, f"a key of {where}")
    if not isinstance(found, (*_SCALARS, type(None), tuple)):
        raise _refused(f"a key of {where}", key)
    return found


def _refused(where: str, value: Any) -> DeclarationError:
    return DeclarationError(
        f"{where} is of type {type(value).__module__}.{type(value).__qualname__}, which a file of the library's cannot "
        "hold: make it a number, a string, a tensor, or a list or dict of these, or keep it elsewhere"
    )


def write(path: Path, state: Mapping[str, Any], what: str) -> None:
    """Writes a file beside its place and moves it there, so that what was there stays until all is written.

    Args:
        what: the file in words, for errors.

    Raises:
        DeclarationError: a value that a file cannot hold; nothing was touched. DataError: the place cannot be written.
    """
    made = {name: plain(value, f"{what}: {name}") for name, value in state.items()}
    beside = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(made, beside)
        os.replace(beside, path)
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or "the disk may be full, or the folder closed to writing"
        raise DataError(f"{what} cannot be written to {path}: {why}; what was there before stays") from error
    finally:
        if beside.exists():
            beside.unlink()


def read(path: Path, what: str, remedy: str) -> dict[str, Any]:
    """What ``write`` wrote, on the CPU.

    Args:
        what, remedy: the file, and what to do with one that is none, in words.

    Raises:
        DataError: it is no such file, or a part of one.
    """
    if path.is_dir():
        raise DataError(f"{what} {path} must be a file; it is a folder: {remedy}")
    try:
        found = torch.load(path, weights_only=True, map_location="cpu")
    except OSError as error:
        raise DataError(f"{what} {path} cannot be read: {error.strerror or type(error).__name__}") from error
    except Exception as error:  # torch names no type for "not one of my files"
        size = path.stat().st_size
        raise DataError(
            f"{what} {path} cannot be read: its {size} bytes are not, or no longer, a file that the library wrote; {remedy}"
        ) from error
    if not isinstance(found, dict):
        raise DataError(f"{what} {path} cannot be read: it holds a {type(found).__name__}; {remedy}")
    return found
