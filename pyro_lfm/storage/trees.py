"""Nested plain values as JSON and named tensors, which are read back exactly, for checkpoints and records."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.storage.plain_values import plain
from pyro_lfm.storage.tensors import DTYPES
from pyro_lfm.storage.texts import Json

# How deep values may lie in lists and dicts: each takes up to three levels of JSON.
_MOST_NESTED = 60
# The first letter of the key of a JSON dict that stands for a value which JSON lacks.
_MARK = "$"
_DTYPES = {
    str(value).removeprefix("torch."): value
    for value in vars(torch).values()
    if isinstance(value, torch.dtype)
}
# Layouts of sparse matrices, with the methods that give their indices: the compressed ones, and the others.
_COMPRESSED = {
    torch.sparse_csr: ("crow_indices", "col_indices"),
    torch.sparse_bsr: ("crow_indices", "col_indices"),
    torch.sparse_csc: ("ccol_indices", "row_indices"),
    torch.sparse_bsc: ("ccol_indices", "row_indices"),
}
# Types of numbers that the format of the file lacks. Their bytes are kept.
_RAW = (torch.complex32, torch.complex128, torch.float8_e8m0fnu)
_LAYOUTS = {str(layout): layout for layout in _COMPRESSED}


class Tree(NamedTuple):
    """A nested value in two parts: JSON, and the tensors that it names."""

    outline: Json
    tensors: dict[str, Tensor]


def tree_of(value: object, where: str) -> Tree:
    """A nested value in the two parts that files hold.

    Args:
        value: None, numbers, strings, bytes, types and devices of torch, tensors, arrays, and lists, tuples, sets and
            dicts of these (see ``plain``).
        where: its name, for errors.

    Raises:
        DeclarationError: a value of another kind, or one that is nested too deep.

    >>> tree = tree_of({"rate": 0.1, "shape": (2, 3), "weight": torch.ones(2)}, "state")
    >>> tree.outline
    {'rate': 0.1, 'shape': {'$tuple': [2, 3]}, 'weight': {'$tensor': 'weight'}}
    >>> tree.tensors
    {'weight': tensor([1., 1.])}
    """
    writer = _Writer(where)
    try:
        return Tree(writer.written(plain(value, where), ()), writer.tensors)
    except RecursionError:
        raise writer.too_deep() from None


def value_of(tree: Tree, what: str) -> Any:
    """The value of which ``tree_of`` made a tree.

    Args:
        what: the file, for errors.

    Raises:
        DataError: the tree is none that ``tree_of`` makes.

    >>> value_of(Tree({"shape": {"$tuple": [2, 3]}}, {}), "state.json")
    {'shape': (2, 3)}
    """
    try:
        return _Reader(tree.tensors, what).read(tree.outline)
    except RecursionError:
        raise DataError(f"{what} cannot be read: it is nested too deep for the stack that is left") from None


class _Writer:
    """Makes JSON of plain values, and collects their tensors under the names of their places."""

    def __init__(self, where: str):
        self.where = where
        self.tensors: dict[str, Tensor] = {}

    def written(self, value: Any, place: tuple[str, ...]) -> Json:
        if len(place) > _MOST_NESTED:
            raise self.too_deep()
        if isinstance(value, Tensor):
            return self._tensor(value, place)
        if isinstance(value, list):
            return self._each(value, place)
        if isinstance(value, dict):
            return self._dict(value, place)
        return self._marked(value, place)

    def too_deep(self) -> DeclarationError:
        return DeclarationError(
            f"{self.where} is nested deeper than the {_MOST_NESTED} levels that a file of pyro_lfm holds: make it flat"
        )

    def _marked(self, value: Any, place: tuple[str, ...]) -> Json:
        """A value that is no list, dict or tensor."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return value if -(2**63) <= value < 2**63 else _mark("int", hex(value))
        if isinstance(value, float):
            return value if math.isfinite(value) else _mark("float", repr(value))
        if isinstance(value, str):
            return value if _is_text(value) else _mark("str", value.encode("utf-8", "surrogatepass").hex())
        if isinstance(value, bytes):
            return _mark("bytes", value.hex())
        if isinstance(value, complex):
            return _mark("complex", self._each([value.real, value.imag], place))
        if isinstance(value, tuple):
            return _mark("tuple", self._each(list(value), place))
        if isinstance(value, set | frozenset):
            return _mark(type(value).__name__, self._each(sorted(value, key=repr), place))
        return _mark(
            "device" if isinstance(value, torch.device) else "dtype", str(value).removeprefix("torch.")
        )

    def _each(self, values: list[Any], place: tuple[str, ...]) -> list[Json]:
        return [self.written(value, (*place, str(k))) for k, value in enumerate(values)]

    def _dict(self, value: dict[Hashable, Any], place: tuple[str, ...]) -> Json:
        if all(isinstance(key, str) and _is_text(key) and not key.startswith(_MARK) for key in value):
            return {str(key): self.written(entry, (*place, str(key))) for key, entry in value.items()}
        pairs: list[Json] = []
        for k, (key, entry) in enumerate(value.items()):
            name = str(key) if isinstance(key, str | int) else str(k)
            pairs.append([self.written(key, (*place, name, "key")), self.written(entry, (*place, name))])
        return _mark("dict", pairs)

    def _tensor(self, value: Tensor, place: tuple[str, ...]) -> Json:
        if value.layout == torch.sparse_coo:
            value = value.coalesce()
            parts = {"indices": value.indices(), "values": value.values(), "shape": tuple(value.shape)}
            return _mark("sparse", self.written(parts, place))
        if value.layout in _COMPRESSED:
            along, other = _COMPRESSED[value.layout]
            places = {"compressed": getattr(value, along)(), "plain": getattr(value, other)()}
            rest = {"values": value.values(), "shape": tuple(value.shape), "layout": str(value.layout)}
            return _mark("compressed", self.written({**places, **rest}, place))
        if value.layout != torch.strided or value.dtype not in (*DTYPES.values(), *_RAW):
            raise DeclarationError(
                f"{self.where}: {'.'.join(place)} is a tensor of layout {value.layout} and type {value.dtype}, which a "
                "file of pyro_lfm cannot hold: make it dense, of plain numbers"
            )
        if value.dtype in _RAW:
            dense = value.resolve_conj().resolve_neg().contiguous()
            raw = dense.reshape(-1).view(torch.uint8)
            parts = {"raw": raw, "dtype": value.dtype, "shape": tuple(value.shape)}
            return _mark("raw", self.written(parts, place))
        if (order := _order_in_memory(value)) is not None:
            parts = {"tensor": value.permute(order), "order": order}
            return _mark("permuted", self.written(parts, place))
        name = first = re.sub(r"[^\w.\- ]", "_", ".".join(place)) or "value"
        while name in self.tensors or name == "__metadata__":
            name = f"{first}~{len(self.tensors)}"
        self.tensors[name] = value
        return _mark("tensor", name)


class _Reader:
    """Makes values of JSON and named tensors, and refuses all that ``_Writer`` does not write."""

    def __init__(self, tensors: Mapping[str, Tensor], what: str):
        self.tensors, self.what = tensors, what
        self.kinds: dict[str, Callable[[Json], Any]] = {
            "int": lambda value: int(self._text(value), 16),
            "float": lambda value: float(self._one_of(value, ("nan", "inf", "-inf"))),
            "str": lambda value: bytes.fromhex(self._text(value)).decode("utf-8", "surrogatepass"),
            "bytes": lambda value: bytes.fromhex(self._text(value)),
            "complex": self._complex,
            "tuple": lambda value: tuple(self._list(value)),
            "set": lambda value: set(self._list(value)),
            "frozenset": lambda value: frozenset(self._list(value)),
            "dict": self._pairs,
            "dtype": lambda value: _DTYPES[self._one_of(value, _DTYPES)],
            "device": lambda value: torch.device(self._text(value)),
            "tensor": lambda value: self.tensors[self._one_of(value, self.tensors)],
            "sparse": self._sparse,
            "compressed": self._compressed,
            "permuted": self._permuted,
            "raw": self._raw,
        }

    def read(self, value: Json) -> Any:
        if isinstance(value, list):
            return self._list(value)
        if not isinstance(value, dict):
            return value
        marks = [key for key in value if key.startswith(_MARK)]
        if not marks:
            return {key: self.read(entry) for key, entry in value.items()}
        kind = marks[0].removeprefix(_MARK)
        if len(value) > 1 or kind not in self.kinds:
            raise self._refused(f"it has the mark {marks[0][:40]!r}, which is not known or not alone")
        try:
            return self.kinds[kind](value[marks[0]])
        except DataError:
            raise
        except (ValueError, TypeError, OverflowError, RuntimeError) as error:  # RuntimeError is torch's
            if isinstance(error, RecursionError):
                raise
            raise self._refused(f"the value of {marks[0]} is none") from None

    def _list(self, value: Json) -> list[Any]:
        if not isinstance(value, list):
            raise self._refused("a list is missing")
        return [self.read(entry) for entry in value]

    def _text(self, value: Json) -> str:
        if not isinstance(value, str):
            raise self._refused("a string is missing")
        return value

    def _one_of(self, value: Json, known: Mapping[str, object] | tuple[str, ...]) -> str:
        word = self._text(value)
        if word not in known:
            raise self._refused(f"{word[:80]!r} is not there, or not known")
        return word

    def _complex(self, value: Json) -> complex:
        real, imaginary = self._list(value)
        return complex(float(real), float(imaginary))

    def _pairs(self, value: Json) -> dict[Any, Any]:
        pairs = [(key, entry) for key, entry in self._list(value)]
        entries = dict(pairs)
        if len(entries) < len(pairs):
            raise self._refused("a key stands twice")
        return entries

    def _parts(self, value: Json, *tensors: str, sizes: str = "shape", word: str | None = None) -> list[Any]:
        """The named tensors that another is made of, a tuple of sizes, and a further part if there is one."""
        parts = self.read(value)
        names = [*tensors, sizes, *filter(None, [word])]
        if not isinstance(parts, dict) or set(parts) != set(names):
            raise self._refused(f"a tensor must have the parts {', '.join(names)}")
        numbers = parts[sizes]
        if not isinstance(numbers, tuple) or not all(type(n) is int and 0 <= n < 2**62 for n in numbers):
            raise self._refused(f"the {sizes} of a tensor must be a tuple of numbers")
        if not all(isinstance(parts[name], Tensor) for name in tensors):
            raise self._refused(f"{', '.join(tensors)} must be tensors")
        return [parts[name] for name in names]

    def _sparse(self, value: Json) -> Tensor:
        indices, values, shape = self._parts(value, "indices", "values")
        return torch.sparse_coo_tensor(indices, values, shape, check_invariants=True).coalesce()

    def _compressed(self, value: Json) -> Tensor:
        *parts, layout = self._parts(value, "compressed", "plain", "values", word="layout")
        layout = _LAYOUTS[self._one_of(layout, _LAYOUTS)]
        return torch.sparse_compressed_tensor(*parts, layout=layout, check_invariants=True)

    def _permuted(self, value: Json) -> Tensor:
        tensor, order = self._parts(value, "tensor", sizes="order")
        back = sorted(range(len(order)), key=order.__getitem__)
        if sorted(order) != list(range(tensor.dim())):
            raise self._refused("the order of the dimensions of a tensor must be a permutation of them")
        return tensor.permute(back)

    def _raw(self, value: Json) -> Tensor:
        raw, shape, dtype = self._parts(value, "raw", word="dtype")
        if raw.dtype != torch.uint8 or raw.dim() != 1 or dtype not in _RAW:
            raise self._refused("the bytes of a tensor must be a row of bytes, of a type that is kept so")
        return raw.view(dtype).reshape(shape)

    def _refused(self, why: str) -> DataError:
        return DataError(f"{self.what} cannot be read: {why}")


def _mark(kind: str, value: Json) -> Json:
    return {f"{_MARK}{kind}": value}


def _order_in_memory(value: Tensor) -> tuple[int, ...] | None:
    """The order of dimensions in which the numbers lie in memory one after the other; None where it is that of the tensor.

    Sums of a transposed tensor run in another order, so that a layout is a part of what gives the same bits.
    """
    strides = value.stride()
    order = tuple(sorted(range(value.dim()), key=lambda k: (-strides[k], -value.shape[k])))
    permuted = not value.is_contiguous() and value.permute(order).is_contiguous()
    return order if permuted else None


def _is_text(value: str) -> bool:
    """Whether UTF-8 can write it: whether no half of a pair of UTF-16 stands in it."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
