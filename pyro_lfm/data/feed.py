"""The batches of an epoch, for training: shuffled rows, gathered into memory that is used again."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator, Mapping

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

    def epoch(self, done: int = 0, most: int | None = None) -> Batches:
        """The batches of an epoch. The call draws the order, also where no batch is taken.

        Args:
            done: the number of first batches that are left out, as an earlier run has done them. Each of the others stands
                at the same place in memory as without them.
            most: the most batches that are given.
        """
        return Batches(self, self.shuffled.epoch(self.generator), self.size, done, most)

    def views(self, place: int, rows: int) -> dict[str, torch.Tensor]:
        """The memory of the batch at a place, of so many rows, by name."""
        views = self._views[place]
        return views if rows == self.size else {name: value[:rows] for name, value in views.items()}

    def memory(self, first: int, rows: int) -> dict[str, torch.Tensor]:
        """The memory of so many rows from the first one on, by name."""
        return {name: memory[first : first + rows] for name, memory in self._memory.items()}


class Batches(Iterator[tuple[torch.Tensor, dict[str, torch.Tensor]]]):
    """The batches of one epoch: row numbers (B,) on the device, and the rows by name, each (B, *event).

    They are taken one by one, from the memory of the feed, or several at a time, into memory that the caller names.

    Args:
        feed: the rows and their memory.
        order: of the rows.
        size: rows of a batch.
        done, most: see ``Feed.epoch``.

    >>> from pyro_lfm.data.readers import read
    >>> feed = Feed(read([[1.0], [2.0], [3.0]], ["x"]), 1, torch.float32, "cpu", torch.Generator().manual_seed(0))
    >>> batches, rows = feed.epoch(), {"x": torch.empty(2, 1)}
    >>> batches.read(2, rows).tolist(), rows["x"].flatten().tolist(), next(batches)[0].tolist(), batches.size
    ([[2], [0]], [3.0, 1.0], [1], 0)
    """

    def __init__(self, feed: Feed, order: EpochOrder, size: int, done: int = 0, most: int | None = None):
        self._feed, self._order, self._size, self._number = feed, order, size, done
        rows = feed.rows // size * size if feed.drop_last else feed.rows
        self._rows = rows if most is None else min(rows, (done + most) * size)
        # The row numbers of the next batches, whose rows are in the memory of the feed.
        self._held: deque[torch.Tensor] = deque()
        self._close = weakref.finalize(self, order.close)

    @property
    def size(self) -> int:
        """The number of rows of the next batch; 0 after the last."""
        return max(0, min(self._size, self._rows - self._number * self._size))

    @property
    def alike(self) -> int:
        """The number of the next batches that have equally many rows."""
        left = self._rows // self._size - self._number
        return left if left > 0 else int(self.size > 0)

    def __next__(self) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if not self.size:
            self.close()
            raise StopIteration
        feed, place = self._feed, self._number % self._feed.batches
        if not self._held:
            rows = min((feed.batches - place) * self._size, self._rows - self._number * self._size)
            self._held += self._fetch(rows, feed.memory(place * self._size, rows)).split(self._size)
        index = self._held.popleft()
        self._number += 1
        return index, feed.views(place, len(index))

    def read(self, count: int, into: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Writes the next batches, of equal size B, one after the other into memory.

        Args:
            count: their number n, at most ``alike``.
            into: (n · B, *event) by name, of the type and on the device of the feed.

        Returns:
            The numbers of their rows, (n, B).
        """
        size, parts = self.size, list[torch.Tensor]()
        while self._held and len(parts) < count:
            index, rows = next(self)
            begun = len(parts) * size
            for name, value in rows.items():
                into[name][begun : begun + size].copy_(value)
            parts.append(index)
        if (left := count - len(parts)) > 0:
            rest = {name: memory[len(parts) * size : count * size] for name, memory in into.items()}
            parts.append(self._fetch(left * size, rest))
            self._number += left
        return torch.cat(parts).view(count, size)

    def close(self) -> None:
        """Ends what reads ahead, before the last batch."""
        self._close()

    def _fetch(self, rows: int, into: Mapping[str, torch.Tensor], own: slice = slice(None)) -> torch.Tensor:
        """Writes so many rows from the next batch on, or ``own`` of them, and gives the numbers of all."""
        first = self._number * self._size
        try:
            index = self._order.read(first, first + rows, into, own)
        except BaseException:
            self.close()
            raise
        return index.to(self._feed.device)
