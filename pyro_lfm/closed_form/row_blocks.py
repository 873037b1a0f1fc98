"""The observed rows block by block, as exact inference reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from pyro_lfm.data.readers import Table
from pyro_lfm.exact.weighted_rows import WeightedRows

# Data of at most this many numbers are kept in memory as float64. Larger data are read again in every pass.
_KEPT = 2**23
# The most rows and numbers of a block. A pass holds a few copies of one block.
_ROWS, _BLOCK = 4096, 2**19


class Blocks:
    """The rows of one observed variable in blocks (B, D), float64, NaN where missing. It can be iterated over repeatedly."""

    def __init__(self, table: Table, name: str):
        self.table, self.name = table, name
        dim = table.event_shapes[name].numel()
        self.length = max(1, min(_ROWS, _BLOCK // max(1, dim)))
        self._kept = list(self._read()) if len(table) * dim <= _KEPT else None

    def _read(self) -> Iterator[Tensor]:
        for index in self.table.blocks(self.length):
            yield self.table.take(index, torch.float64)[self.name].flatten(1)

    def __iter__(self) -> Iterator[Tensor]:
        return self._read() if self._kept is None else iter(self._kept)


def weighted_blocks(table: Table, name: str) -> Iterable[Tensor]:
    """The rows to fit in blocks, with their weights where they have some."""
    blocks = Blocks(table, name)
    return blocks if table.weights is None else WeightedRows(blocks, table.weights)
