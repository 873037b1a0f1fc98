"""Checks of sizes, numbers and shapes in arguments, and the layout of contexts and heads; for all layers."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Iterable, Sequence
from math import prod
from typing import SupportsIndex, TypeVar, cast

import torch

from pyro_lfm.errors import DeclarationError, ShapeError

Entry = TypeVar("Entry")


def whole(name: str, value: SupportsIndex | str, least: int = 1) -> int:
    """A whole number of Python or NumPy, at least ``least``.

    >>> whole("epochs", 3)
    3
    """
    try:
        number = None if isinstance(value, bool) else operator.index(cast(SupportsIndex, value))
    except TypeError:
        number = None
    if number is None or number < least:
        kind = "a positive int" if least == 1 else f"an int of at least {least}"
        raise DeclarationError(f"{name} must be {kind}; got {value!r}")
    return number


def number(
    name: str, value: float | torch.Tensor, least: float, *, above: bool = False, or_else: str = ""
) -> float:
    """A finite number, at least ``least`` or above it.

    >>> number("free_bits", 1, least=0.0)
    1.0
    """
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (real and math.isfinite(value) and (value > least if above else value >= least)):
        words = f"a number {'>' if above else '≥'} {least:g}{' ' * bool(or_else)}{or_else}"
        raise DeclarationError(f"{name} must be {words}; got {value!r}")
    return float(value)


def event_shape(size: int | Sequence[int]) -> torch.Size:
    """An event size as a shape.

    >>> event_shape(3), event_shape((1, 8, 8))
    (torch.Size([3]), torch.Size([1, 8, 8]))
    """
    sizes = size if isinstance(size, list | tuple) else (size,)
    try:
        return torch.Size([whole("event size", n) for n in sizes])
    except DeclarationError:
        message = f"event size must be a positive int or a shape of them; got {size!r}"
        raise DeclarationError(message) from None


def split_flat(rows: torch.Tensor, heads: dict[str, torch.Size]) -> dict[str, torch.Tensor]:
    """Rows of numbers (..., n), cut into one tensor per head."""
    pieces = rows.split([shape.numel() for shape in heads.values()], -1)
    return {n: p.reshape(*rows.shape[:-1], *s) for (n, s), p in zip(heads.items(), pieces, strict=True)}


def is_shape(shape: torch.Size, wanted: tuple[int, ...]) -> bool:
    """Whether two shapes are known to be equal. While a graph is exported nothing is, as the number of rows is open."""
    return not torch.compiler.is_exporting() and shape == wanted


def reshaped(value: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """``value.reshape(shape)``, which is the tensor itself where it has that shape: autograd then passes no view."""
    return value if is_shape(value.shape, shape) else value.reshape(shape)


def split_heads(output: torch.Tensor, shapes: dict[str, torch.Size]) -> dict[str, torch.Tensor]:
    """The outputs of one trunk, (..., *trunk_shape(shapes)), cut into one tensor per head."""
    trunk = trunk_shape(shapes)
    batch = output.shape[: output.dim() - len(trunk)]
    sizes = [shape[0] if len(trunk) > 1 else prod(shape) for shape in shapes.values()]
    pieces = output.split(sizes, dim=-len(trunk))
    every = zip(shapes.items(), pieces, strict=True)
    return {name: reshaped(piece, batch + shape) for (name, shape), piece in every}


def trunk_shape(shapes: dict[str, torch.Size]) -> torch.Size:
    """The output shape of a trunk: heads that are images of one size are stacked as channels, others are flattened."""
    each = list(shapes.values())
    if len(each[0]) == 3 and all(len(shape) == 3 and shape[1:] == each[0][1:] for shape in each):
        return torch.Size((sum(shape[0] for shape in each), *each[0][1:]))
    return torch.Size((sum(prod(shape) for shape in each),))


def join(parents: Sequence[torch.Tensor], shapes: Sequence[torch.Size]) -> torch.Tensor:
    """Several parents as one context: each is flattened, leading dimensions are broadcast, and all are concatenated."""
    flat = [
        value.reshape(*value.shape[: value.dim() - len(shape)], prod(shape))
        for value, shape in zip(parents, shapes, strict=True)
    ]
    batch = torch.broadcast_shapes(*(value.shape[:-1] for value in flat))
    return torch.cat([value.expand(*batch, value.shape[-1]) for value in flat], -1)


def check_rows(name: str, value: torch.Tensor, shape: torch.Size) -> None:
    """Raises ShapeError if the rows of a variable have not the shape of its events."""
    if value.shape[1:] != shape:
        wanted = ", ".join(["N"] + [str(n) for n in shape])
        raise ShapeError(f"{name} must have shape ({wanted}{',' * (not shape)}); got {tuple(value.shape)}")


def check_parents(name: str, values: Sequence[torch.Tensor], shapes: dict[str, torch.Size]) -> None:
    """Raises ShapeError if values do not fit the parents of a factor."""
    if len(values) != len(shapes):
        raise ShapeError(f"factor {name} takes its parents ({', '.join(shapes)}); got {len(values)} values")
    for value, (parent, shape) in zip(values, shapes.items(), strict=True):
        if value.shape[value.dim() - len(shape) :] != shape:
            wanted = ", ".join(["..."] + [str(n) for n in shape])
            raise ShapeError(f"{parent} must have shape ({wanted}); got {tuple(value.shape)}")


def several(name: str, values: Iterable[Entry]) -> list[Entry]:
    """The values of a list, tuple, tensor or array, in order.

    >>> several("counts", (1, 2))
    [1, 2]
    """
    if isinstance(values, str | bytes | dict | set):
        raise DeclarationError(f"{name} must be a list; got {values!r}")
    try:
        return list(values)
    except TypeError:
        raise DeclarationError(f"{name} must be a list, such as [{values!r}]; got {values!r}") from None
