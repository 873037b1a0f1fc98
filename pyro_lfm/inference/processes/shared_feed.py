"""``SharedFeed``: the batches of an epoch, of which a process reads the rows of its own share alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import torch

from pyro_lfm.data.feed import Feed
from pyro_lfm.data.readers import Table
from pyro_lfm.data.row_order.epoch_order import EpochOrder, ShuffledRows
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

    def epoch(self, done: int = 0) -> Iterator[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        """See ``Feed.epoch``."""
        return self._shares(self.shuffled.epoch(self.generator), done)

    def _shares(self, order: EpochOrder, done: int) -> Iterator[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        rows = self.rows // self.whole * self.whole if self.drop_last else self.rows
        with closing(order):
            for start in range(done * self.whole, rows, self.whole):
                size = min(self.whole, rows - start)
                own = self.share(size).rows
                values = {name: memory[: own.stop - own.start] for name, memory in self._memory.items()}
                index = order.read(start, start + size, values, own)
                yield index.to(self.device), values
