"""A block of rows of one name: their shape, the names of columns, and how to fetch some; what containers are opened as."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pyro_lfm.data.label_codes import Labels
from pyro_lfm.data.remedies import remedy_for
from pyro_lfm.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from scipy.sparse import sparray

Fetch = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Stored:
    """How rows lie on the disk.

    Attributes:
        chunk: the rows of a chunk, which is read as a whole; 1 where any run of rows can be read.
        starts: the first row of each chunk, where chunks differ in length.
        apart: whether each row stands by itself, as a picture in a file of its own, so that blocks save nothing.
    """

    chunk: int = 1
    starts: Tensor | None = None
    apart: bool = False

    @staticmethod
    def together(several: Sequence[Stored]) -> Stored | None:
        """How the rows of several names lie, of which the same are read: in the longest chunks of any; None for no names."""
        if not several:
            return None
        starts = [each.starts for each in several if each.starts is not None]
        chunk, apart = max(each.chunk for each in several), all(each.apart for each in several)
        return Stored(chunk, min(starts, key=len, default=None), apart)


@dataclass(frozen=True)
class Block:
    """The rows of one name in their container.

    Attributes:
        shape: (N, ...).
        fetch: gives the rows at indices (B,), in their own type; None for labels.
        names: the names of the columns; None if the container has none.
        labels: the labels of a column that holds no numbers.
        whole: all rows as a tensor that shares their memory; None if torch cannot read it.
        container: the pandas object that holds the rows; None for other containers.
        stored: how the rows lie on the disk; None where they are in memory.
    """

    shape: torch.Size
    fetch: Fetch | None
    names: tuple[Hashable, ...] | None = None
    labels: Labels | None = None
    whole: Tensor | None = None
    container: pd.DataFrame | pd.Series | None = None
    stored: Stored | None = None


@dataclass(frozen=True)
class InOrder:
    """Fetches rows, and puts their columns in another order."""

    rows: Fetch
    order: list[int]

    def __call__(self, index: Tensor) -> Tensor:
        return self.rows(index)[:, self.order]


def check_numeric(values: np.ndarray | Tensor | sparray, name: str, column: Hashable = None) -> None:
    """Raises DataError if the entries are no real numbers."""
    dtype = values.dtype
    numeric = not dtype.is_complex if isinstance(dtype, torch.dtype) else dtype.kind in "biuf"
    if not numeric:
        where = "" if column is None else f" in column {column!r}"
        raise DataError(f"{name} must hold real numbers; got dtype {dtype}{where}: {remedy_for(values)}")


def from_numpy(rows: np.ndarray) -> Tensor:
    """Rows as a tensor: whole numbers in int64 if they fit, float32 and uint8 unchanged, all others in float64."""
    if isinstance(rows, np.ma.MaskedArray):
        rows = np.ma.filled(rows.astype(np.float64), np.nan)
    dtype: np.dtype[Any] = np.dtype(np.float64)
    if rows.dtype in (np.float32, np.uint8):
        dtype = rows.dtype.newbyteorder("=")
    elif rows.dtype.kind in "iu" and not (
        rows.dtype.itemsize == 8 and rows.dtype.kind == "u" and _too_large(rows)
    ):
        dtype = np.dtype(np.int64)
    return torch.from_numpy(np.require(rows, dtype, ["C", "W", "E"]))  # torch takes no other strides


def _too_large(rows: np.ndarray) -> bool:
    return bool(rows.size) and int(rows.max()) >= 2**63


def comes_from(kind: type, package: str) -> bool:
    """Whether a class belongs to a package, which is not imported for it."""
    return any(base.__module__.partition(".")[0] == package for base in kind.__mro__)
