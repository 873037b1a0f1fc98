"""Digests of rows: whether they are still those that they were."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from pyro_lfm.data.readers import Table
from pyro_lfm.runtime import Stream

# Larger rows are looked at in part: in so many blocks, evenly spread over them, of so many bytes together.
_WHOLE_BYTES, _SPREAD = 2**26, 64
# So many rows of a torch Dataset, each of which may be read from a file of its own.
_ITEMS = 256


def of_rows(table: Table) -> str:
    """All rows of a table in words, with a digest of their values: the same for any container and floating type.

    Rows that are others at every reading, as those of a ``Dataset`` that augments them, have no digest.

    >>> from pyro_lfm.data.readers import read
    >>> of_rows(read([[1.0], [2.0]], ["x"])) == of_rows(read(torch.tensor([[1], [2]]), ["x"]))
    True
    """
    words = f"{len(table)} rows of {', '.join(table.names)}"
    with Stream(0):
        if _vary(table):
            return f"{words}, which differ at every reading"
        return f"{words}, {_digest(table, table.blocks(_rows_of(table, 2**22)))[:16]}"


class RowsSeen:
    """Rows as they were at one moment, to be compared with what they are later; nothing of them is kept.

    Rows of at most 64 MiB in float64 are looked at whole. Of larger ones 64 blocks are, spread evenly from the first row to
    the last, 64 MiB in all, and of a torch ``Dataset`` 256 items: a change elsewhere is not seen. Rows that are others at
    every reading are not compared.

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
            self.digest = None if _vary(table) else _digest(table, _sample(table))

    def are_those_of(self, table: Table) -> bool:
        """Whether the rows are as they were, as far as they are looked at."""
        if self.digest is None or table.is_absent:
            return True
        with Stream(0):
            return _digest(table, _sample(table)) == self.digest


def _digest(table: Table, indices: Iterable[Tensor]) -> str:
    """Of the values of these rows, in double precision."""
    digest = hashlib.sha256()
    for index in indices:
        for name, value in table.take(index, torch.float64).items():
            digest.update(name.encode())
            digest.update(value.contiguous().numpy().data)
    return digest.hexdigest()


def _vary(table: Table) -> bool:
    """Whether rows are others when they are read again: items of a ``Dataset`` may be."""
    if not table.by_item:
        return False
    first = [torch.arange(min(4, len(table)))]
    return _digest(table, first) != _digest(table, first)


def _sample(table: Table) -> Iterator[Tensor]:
    """The rows that are looked at, block by block."""
    most = _ITEMS if table.by_item else _rows_of(table, _WHOLE_BYTES)
    if len(table) <= most:
        yield from table.blocks(_rows_of(table, 2**22))
        return
    size = max(1, most // _SPREAD)
    starts = torch.linspace(0, len(table) - size, min(most, _SPREAD), dtype=torch.float64).long().tolist()
    for start in starts:
        yield torch.arange(start, start + size)


def _rows_of(table: Table, size: int) -> int:
    """How many rows have so many bytes."""
    return max(1, size // (8 * sum(max(1, shape.numel()) for shape in table.event_shapes.values())))
