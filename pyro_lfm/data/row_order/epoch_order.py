"""``EpochOrder``, the rows of one epoch in their order, for ``Feed``; ``WholeShuffle``, where all are shuffled at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from pyro_lfm.data.readers import Table


class EpochOrder(ABC):
    """The rows of one epoch in their order, each once. It is read from front to back."""

    @abstractmethod
    def read(self, start: int, stop: int, into: Mapping[str, Tensor], own: slice = slice(None)) -> Tensor:
        """Writes rows at these places of the order into tensors by name, and gives the numbers of all of them.

        Args:
            start, stop: places in the order. ``start`` is at least the ``stop`` of the call before.
            into: of shape (B, *event), with B the number of the rows that are written.
            own: which of the rows are written, by default all; a process that shares batches needs its own alone.
        """

    @abstractmethod
    def close(self) -> None:
        """Ends what reads ahead."""


class ShuffledRows(ABC):
    """Rows that have a new order in each epoch. As a text it is the same where the orders are."""

    @abstractmethod
    def epoch(self, generator: torch.Generator) -> EpochOrder:
        """The next epoch. Its order is drawn by this call, from the generator alone."""


class WholeShuffle(ShuffledRows):
    """All rows are shuffled at once, and fetched from their containers by number.

    Args:
        table: the rows. Those of weight 0 are left out.

    >>> from pyro_lfm.data.readers import read
    >>> order = WholeShuffle(read([[1.0], [2.0], [3.0]], ["x"])).epoch(torch.Generator().manual_seed(0))
    >>> order.read(0, 2, {"x": torch.empty(2, 1)})
    tensor([2, 0])
    """

    def __init__(self, table: Table):
        self.table = table

    def __str__(self) -> str:
        return "all rows shuffled at once"

    def epoch(self, generator: torch.Generator) -> EpochOrder:
        order = torch.randperm(self.table.count, generator=generator)
        return _Whole(self.table, order if self.table.weights is None else self.table.counted[order])


class _Whole(EpochOrder):
    def __init__(self, table: Table, order: Tensor):
        self.table, self.order = table, order

    def read(self, start: int, stop: int, into: Mapping[str, Tensor], own: slice = slice(None)) -> Tensor:
        index = self.order[start:stop]
        self.table.gather(index[own], into)
        return index

    def close(self) -> None:
        pass
