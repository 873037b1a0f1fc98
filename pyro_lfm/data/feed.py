"""The batches of an epoch, for training: shuffled rows, gathered into memory that is used again."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from pyro_lfm.data.readers import Table

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
    ):
        self.table, self.size, self.generator, self.drop_last = table, size, generator, drop_last
        self.device = torch.device(device)
        self.rows = len(table.counted)
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
        order = torch.randperm(self.rows, generator=self.generator)
        if self.table.weights is not None:
            order = self.table.counted[order]
        if self.drop_last:
            order = order[: len(order) // self.size * self.size]
        return self._batches(order, done)

    def _batches(
        self, order: torch.Tensor, done: int
    ) -> Iterator[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        blocks, begun = divmod(done, self.batches)
        for block in order.split(self.batches * self.size)[blocks:]:
            self.table.gather(block, {name: memory[: len(block)] for name, memory in self._memory.items()})
            parts = block.to(self.device).split(self.size)
            for index, views in [*zip(parts, self._views, strict=False)][begun:]:
                whole = len(index) == self.size
                yield index, views if whole else {name: value[: len(index)] for name, value in views.items()}
            begun = 0
