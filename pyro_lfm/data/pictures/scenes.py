"""Data sets of pictures with known factors: how factors are drawn and read, and how rows are painted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pyro_lfm.data.datasets import parts
from pyro_lfm.errors import DataError, ShapeError

Spec = Mapping[str, tuple[float, float] | tuple[str, ...]]  # the ends of a range, or the names of values
_BLOCK = 2**16  # pixels that are painted at once, so that a layer stays in the cache


@dataclass(frozen=True, eq=False)
class Scenes:
    """Drawn pictures as rows, with the values of their factors.

    ``x`` is (N, D), float32 in [0, 1]. ``factors`` holds the N values of each factor, float32, or int64 for a categorical
    one, whose values are named in ``labels``. ``shape`` is that of one picture, channels first, with D entries.

    >>> import pyro_lfm as lfm
    >>> data = lfm.data.sprites(n=100)
    >>> data.x.shape, list(data.factors), data.labels
    (torch.Size([100, 1024]), ['shape', 'scale', 'rotation', 'x', 'y'], {'shape': ('square', 'ellipse', 'heart')})
    """

    x: Tensor = field(repr=False)
    factors: Mapping[str, Tensor] = field(repr=False)
    shape: tuple[int, ...]
    name: str
    labels: Mapping[str, tuple[str, ...]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.x)

    def split(self, test: float = 0.2, seed: int = 0) -> tuple["Scenes", "Scenes"]:
        """A random part to train on and, of a fraction ``test`` of the rows, one to test on.

        >>> import pyro_lfm as lfm
        >>> [len(part) for part in lfm.data.sprites(n=100).split(test=0.25)]
        [75, 25]
        """
        train, held_out = (
            Scenes(
                self.x[rows],
                {k: v[rows] for k, v in self.factors.items()},
                self.shape,
                self.name,
                self.labels,
            )
            for rows in parts(len(self), test, seed)
        )
        return train, held_out


def draw_factors(spec: Spec, n: int, seed: int) -> dict[str, Tensor]:
    """The factors of n rows, uniform and independent. The first rows do not depend on n."""
    if not isinstance(n, int) or n < 1:
        raise DataError(f"n must be a whole number of pictures, 1 or more; got {n!r}")
    uniform = torch.rand(n, len(spec), generator=torch.Generator().manual_seed(seed)).unbind(1)
    return {
        name: (u * len(names)).long() if names else low + (high - low) * u
        for (name, (low, high, names)), u in zip(_bounds(spec).items(), uniform, strict=True)
    }


def read_factors(spec: Spec, values: Mapping[str, float | str | Tensor]) -> dict[str, Tensor]:
    """The values of each factor, (N,), from a number, a label or N values.

    >>> read_factors({"kind": ("a", "b"), "scale": (0.0, 1.0)}, {"kind": "b", "scale": torch.tensor([0.5, 1.0])})
    {'kind': tensor([1, 1]), 'scale': tensor([0.5000, 1.0000])}
    """
    read = {}
    for name, (low, high, names) in _bounds(spec).items():
        value = values[name]
        if isinstance(value, str) and value in names:
            value = names.index(value)
        expected = (
            f"one of {', '.join(map(repr, names))}, or its index" if names else f"from {low:g} to {high:g}"
        )
        try:
            column = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError):
            raise DataError(f"{name} must be {expected}, one or a row of them; got {value!r}") from None
        if names and not column.is_complex() and (column == column.long()).all():
            column = column.long()  # from bools and floating-point numbers too
        if column.is_complex() or (names and column.dtype.is_floating_point):
            raise DataError(f"{name} must be {expected}; got {column.dtype}")
        if column.ndim > 1 or not column.numel():
            raise ShapeError(f"{name} must be a number or have shape (N,); got {tuple(column.shape)}")
        if not ((low <= column) & (column <= high) & column.isfinite()).all():
            raise DataError(f"{name} must be {expected}; got values from {column.min()} to {column.max()}")
        read[name] = column.long() if names else column.float()
    sizes = {name: len(column) for name, column in read.items() if column.ndim}
    if len(set(sizes.values()) - {1}) > 1:
        raise ShapeError(f"factors must have one number of rows, or a single value; got {sizes}")
    return dict(
        zip(read, torch.broadcast_tensors(*(column.reshape(-1) for column in read.values())), strict=True)
    )


def paint(picture: Callable[..., Tensor], factors: Mapping[str, Tensor], size: int) -> Tensor:
    """The pictures as rows (N, D): ``picture(size, **factors)`` gives those of a block of rows."""
    if not isinstance(size, int) or size < 8:
        raise DataError(f"size must be the whole number of pixels of a side, 8 or more; got {size!r}")
    columns = [column.split(max(1, _BLOCK // size**2)) for column in factors.values()]
    return torch.cat(
        [
            picture(
                size, **{name: c.reshape(-1, 1, 1) for name, c in zip(factors, block, strict=True)}
            ).flatten(1)
            for block in zip(*columns, strict=True)
        ]
    )


def _bounds(spec: Spec) -> dict[str, tuple[float, float, tuple[str, ...]]]:
    """The lowest and the highest value of each factor, and the names of its values if it is categorical."""
    bounds: dict[str, tuple[float, float, tuple[str, ...]]] = {}
    for name, values in spec.items():
        if isinstance(values[0], str):
            bounds[name] = (0, len(values) - 1, tuple(map(str, values)))
        else:
            bounds[name] = (float(values[0]), float(values[1]), ())
    return bounds
