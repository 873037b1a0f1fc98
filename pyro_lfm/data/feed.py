"""The batches of an epoch, for training: shuffled rows, gathered into memory that is used again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import torch

from pyro_lfm.data.readers import Table
from pyro_lfm.data.row_order.epoch_order import EpochOrder, ShuffledRows, WholeShuffle

# Batches are gathered several at a time while they fit into a cache.
_BLOCK_BYTES = 2**18


class Feed:
    """Goes through a table in a new order each epoch.

    The tensors that it yields are overwritten by later batches: copy those that are to be kept.

    Args:
        table: the rows. Those of weight 0 are left out.
        size: rows per batch; the last batch of an epoch holds the remaining rows.
        dtype, device: of the tensors.
        generator: the random stream of the order.
        drop_last: whether to leave out the rows that do not fill a last batch. They are others in every epoch.
        shuffled: the rows in their orders; by default all rows are shuffled at once.

    >>> from pyro_lfm.data.readers import read
    >>> feed = Feed(read([[1.0], [2.0], [3.0]], ["x"]), 2, torch.float32, "cpu", torch.Generator().manual_seed(0))
    >>> [(index.tolist(), rows["x"].flatten().tolist()) for index, rows in feed.epoch()]
    [([2, 0], [3.0, 1.0]), ([1], [2.0])]
    """

    def __init__(
        self,
        table: Table,
        size: int,
        dtype: torch.dtype,
        device: torch.device | str,
        generator: torch.Generator,
        drop_last: bool = False,
        shuffled: ShuffledRows | None = None,
    ):
        self.table, self.size, self.generator, self.drop_last = table, size, generator, drop_last
        self.device = torch.device(device)
        self.shuffled = WholeShuffle(table) if shuffled is None else shuffled
        self.rows = table.count
        row = sum(shape.numel() for shape in table.event_shapes.values()) * dtype.itemsize
        self.batches = max(1, min(_BLOCK_BYTES // max(1, row * size), self.rows // size))
        rows = self.batches * size
        self._memory = {
            name: torch.empty(rows, *shape, dtype=dtype, device=device)
            for name, shape in table.event_shapes.items()
        }
        views = {name: memory.split(size) for name, memory in self._memory.items()}
        self._views = [{name: parts[k] for name, parts in views.items()} for k in range(self.batches)]

    def epoch(self, done: int = 0) -> Iterator[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        """The batches of an epoch: row numbers (B,) on the device, and the rows by name, each (B, *event).

        The call draws the order, also where no batch is taken.

        Args:
            done: the number of first batches that are left out, as an earlier run has done them. Each of the others stands
                at the same place in memory as without them.
        """
        return self._batches(self.shuffled.epoch(self.generator), done)

    def _batches(
        self, order: EpochOrder, done: int
    ) -> Iterator[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        block, rows = self.batches * self.size, self.rows
        if self.drop_last:
            rows = rows // self.size * self.size
        blocks, begun = divmod(done, self.batches)
        with closing(order):
            for start in range(blocks * block, rows, block):
                length = min(block, rows - start)
                into = {name: memory[:length] for name, memory in self._memory.items()}
                index = order.read(start, start + length, into).to(self.device)
                for part, views in [*zip(index.split(self.size), self._views, strict=False)][begun:]:
                    whole = len(part) == self.size
                    yield part, views if whole else {n: value[: len(part)] for n, value in views.items()}
                begun = 0
