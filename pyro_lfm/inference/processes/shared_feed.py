"""``SharedFeed``: the batches of an epoch, of which a process reads the rows of its own share alone."""

from __future__ import annotations

from collections.abc import Callable

import torch

from pyro_lfm.data.feed import Batches, Feed
from pyro_lfm.data.readers import Table
from pyro_lfm.data.row_order.epoch_order import ShuffledRows
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
        shuffled: ShuffledRows,
        share: Callable[[int], Share],
    ):
        # A share of the last batch may be larger than that of a full one, by a row.
        shares = [share(each).rows for each in (size, table.count % size or size)]
        most = max(rows.stop - rows.start for rows in shares)
        super().__init__(table, most, dtype, device, generator, drop_last, shuffled)
        self.whole, self.share = size, share

    def epoch(self, done: int = 0, most: int | None = None) -> Batches:
        """See ``Feed.epoch``."""
        return _SharedBatches(self, self.shuffled.epoch(self.generator), self.whole, done, most)


class _SharedBatches(Batches):
    """The batches of one epoch, with the values of the own rows."""

    _feed: SharedFeed

    def __next__(self) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if not (size := self.size):
            self.close()
            raise StopIteration
        own = self._feed.share(size).rows
        values = self._feed.memory(0, own.stop - own.start)
        index = self._fetch(size, values, own)
        self._number += 1
        return index, values
