"""``plain``, which makes values of NumPy and torch such that a file can hold them, for checkpoints and records."""

from __future__ import annotations

import numbers
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch

from pyro_lfm.errors import DeclarationError

_SCALARS = (bool, int, float, complex, str, bytes)


def plain(value: object, where: str) -> Any:
    """The value as a file can hold it: tensors, numbers, strings, None, and lists, tuples, sets and dicts.

    NumPy's numbers become Python's and its arrays become tensors. A slice of a larger tensor is copied.

    Args:
        where: the place of the value, for the error.

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
        members = {plain(entry, where) for entry in value}
        return members if isinstance(value, set) else frozenset(members)
    kind: Any
    for kind in _SCALARS[1:]:  # a subclass, such as a member of an Enum
        if isinstance(value, kind):
            return str.__str__(value) if kind is str else kind(value)
    if isinstance(value, numbers.Real):
        return float(value)
    raise _refused(where, type(value))


def _own(value: torch.Tensor, where: str) -> torch.Tensor:
    if type(value) not in (torch.Tensor, torch.nn.Parameter) or value.device.type == "meta":
        raise _refused(where, type(value))
    value = value.detach()
    if value.layout != torch.strided:
        return value
    small = value.numel() * value.element_size() < value.untyped_storage().nbytes()
    return value.clone() if small else value


def _of_numpy(value: np.generic | np.ndarray, where: str) -> Any:
    if isinstance(value, np.ma.MaskedArray) or value.dtype.kind not in "biufcSU":
        raise _refused(where, type(value))
    if isinstance(value, np.generic) or value.dtype.kind in "SU":
        return plain(value.tolist() if isinstance(value, np.ndarray) else _scalar(value), where)
    try:
        return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C"))
    except TypeError:  # a type that torch lacks
        raise _refused(where, type(value)) from None


def _scalar(value: np.generic) -> Any:
    """The number as Python's own. Extended precision, which Python lacks, becomes a double."""
    number = value.item()
    return float(value) if isinstance(number, np.generic) else number  # type: ignore[arg-type]


def _key(key: Hashable, where: str) -> Any:
    plain_key = plain(key, f"a key of {where}")
    if not isinstance(plain_key, (*_SCALARS, type(None), tuple)):
        raise _refused(f"a key of {where}", type(key))
    return plain_key


def _refused(where: str, kind: type) -> DeclarationError:
    return DeclarationError(
        f"{where} is of type {kind.__module__}.{kind.__qualname__}, which a file of pyro_lfm cannot "
        "hold: make it a number, a string, a tensor, or a list or dict of these, or keep it elsewhere"
    )
