"""Digests of rows, by which fits and checkpoints notice that their rows have changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from pyro_lfm.data.readers import Table
from pyro_lfm.runtime import Stream

# Of more bytes than these only 64 blocks are read, spread evenly over the rows.
_WHOLE_BYTES, _SPREAD = 2**26, 64
# The rows of a torch Dataset that are read: each may stand in a file of its own.
_ITEMS = 256


def of_rows(table: Table) -> str:
    """A description of the rows of a table, with a digest that is the same for any container and floating type.

    Rows that differ at every reading, such as those of a ``Dataset`` that augments them, have no digest.

    >>> from pyro_lfm.data.readers import read
    >>> of_rows(read([[1.0], [2.0]], ["x"])) == of_rows(read(torch.tensor([[1], [2]]), ["x"]))
    True
    """
    words = f"{len(table)} rows of {', '.join(table.names)}"
    with Stream(0):
        if _vary(table):
            return f"{words}, which differ at every reading"
        return f"{words}, {_digest(table, table.blocks(_rows_of(table, 2**22)))[:16]}"


def of_weights(table: Table) -> str:
    """A description of the weights of rows, with a digest.

    >>> from pyro_lfm.data.readers import read
    >>> of_weights(read([[1.0], [2.0]], ["x"]))
    'none'
    """
    if table.weights is None:
        return "none"
    digest = hashlib.sha256(table.weights.contiguous().numpy().data).hexdigest()
    return f"{len(table)} weights whose sum is {table.total_weight:g}, {digest[:16]}"


class RowsSeen:
    """The digest of rows at one moment, to be compared with their digest later. The rows are not copied.

    Up to 64 MiB in float64 all rows are read. Of more rows 64 blocks of 64 MiB in all are read, spread evenly from the first
    row to the last, and of a torch ``Dataset`` 256 items: changes elsewhere go unnoticed. Rows that differ at every reading
    are not compared.

    >>> import numpy as np
    >>> from pyro_lfm.data.readers import read
    >>> values = np.zeros((3, 2))
    >>> table = read(values, ["x"])
    >>> before = RowsSeen(table)
    >>> values[1] = 7.0
    >>> before.are_those_of(table)
    False
    """

    def __init__(self, table: Table):
        with Stream(0):
            self.digest = None if table.is_absent or _vary(table) else _digest(table, _sample(table), None)

    def are_those_of(self, table: Table) -> bool:
        """Whether the rows that are read are unchanged."""
        if self.digest is None or table.is_absent:
            return True
        with Stream(0):
            return _digest(table, _sample(table), None) == self.digest


def _digest(table: Table, indices: Iterable[Tensor], dtype: torch.dtype | None = torch.float64) -> str:
    """The digest of the values at these indices, in a type or, where that is None, in their own."""
    digest = hashlib.sha256()
    for index in indices:
        for name, value in table.take(index, dtype).items():
            digest.update(name.encode())
            digest.update(value.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _vary(table: Table) -> bool:
    """Whether rows differ when they are read again, as items of a ``Dataset`` may."""
    if not table.by_item:
        return False
    first = [torch.arange(min(4, len(table)))]
    return _digest(table, first) != _digest(table, first)


def _sample(table: Table) -> Iterator[Tensor]:
    """The indices that are read, block by block."""
    most = _ITEMS if table.by_item else _rows_of(table, _WHOLE_BYTES)
    if len(table) <= most:
        yield from table.blocks(_rows_of(table, 2**22))
        return
    size = max(1, most // _SPREAD)
    starts = torch.linspace(0, len(table) - size, min(most, _SPREAD), dtype=torch.float64).long().tolist()
    for start in starts:
        yield torch.arange(start, start + size)


def _rows_of(table: Table, size: int) -> int:
    """The number of rows that have this many bytes."""
    return max(1, size // (8 * sum(max(1, shape.numel()) for shape in table.event_shapes.values())))
