"""``SharedFeed``: the batches of an epoch, of which a process reads the rows of its own share alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from pyro_lfm.data.feed import Feed
from pyro_lfm.data.readers import Table
from pyro_lfm.data.shares import Share


class SharedFeed(Feed):
    """A feed that yields the row numbers of the whole batch, (B,), and the values of the own rows of it.

    Args:
        share: gives the own share of a batch of so many rows; for others see ``Feed``.
    """

    def __init__(
        self,
        table: Table,
        size: int,
        dtype: torch.dtype,
        device: torch.device | str,
        generator: torch.Generator,
        drop_last: bool,
        share: Callable[[int], Share],
    ):
        own = share(size).rows
        super().__init__(table, own.stop - own.start, dtype, device, generator, drop_last)
        self.whole, self.share = size, share

    def epoch(self, done: int = 0) -> Iterator[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        """See ``Feed.epoch``."""
        order = torch.randperm(self.rows, generator=self.generator)
        if self.table.weights is not None:
            order = self.table.counted[order]
        if self.drop_last:
            order = order[: len(order) // self.whole * self.whole]
        batches = order.split(self.whole)
        own = torch.cat([batch[self.share(len(batch)).rows] for batch in batches])
        rows = self._batches(own, done)
        return (
            (index.to(self.device), values) for index, (_, values) in zip(batches[done:], rows, strict=True)
        )
