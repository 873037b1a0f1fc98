"""``BlockShuffle``, rows on the disk that are shuffled block by block; one thread reads the next window ahead."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyro_lfm.data.row_order.epoch_order import EpochOrder, ShuffledRows
from pyro_lfm.data.row_order.shuffled_blocks import BlockEpoch, Blocks, Window
from pyro_lfm.errors import DataError, first_line

if TYPE_CHECKING:
    from pyro_lfm.data.readers import Table

# The bytes that are read at a time, so that a conversion to another type needs little memory.
_PIECE_BYTES = 2**23


class BlockShuffle(ShuffledRows):
    """Rows that are shuffled block by block. Two windows are in memory: one is trained on while the next is read.

    Args:
        table: the rows.
        blocks: of the rows.
        dtype: the floating type in which windows are held.
    """

    def __init__(self, table: Table, blocks: Blocks, dtype: torch.dtype):
        self.table, self.blocks = table, blocks
        held = torch.float32 if dtype == torch.bfloat16 else dtype  # NumPy, which reads, has no bfloat16
        self.buffers = [
            {name: torch.empty(blocks.most, *shape, dtype=held) for name, shape in table.event_shapes.items()}
            for _ in range(min(2, blocks.windows))
        ]
        row = sum(shape.numel() for shape in table.event_shapes.values()) * dtype.itemsize
        self.piece = max(1, _PIECE_BYTES // max(1, row))

    def __str__(self) -> str:
        return str(self.blocks)

    def epoch(self, generator: torch.Generator) -> EpochOrder:
        return _Windows(self, self.blocks.epoch(generator))

    def fill(self, window: Window, number: int) -> None:
        """Reads the rows of a window, in the order of the file, into a buffer.

        Raises:
            DataError: they cannot be read.
        """
        begun, buffer = 0, self.buffers[number % 2]
        for first, last in window.spans:
            for start in range(first, last, self.piece):
                stop = min(start + self.piece, last)
                into = {name: memory[begun : begun + stop - start] for name, memory in buffer.items()}
                try:
                    self.table.read_span(start, stop, into)
                except DataError:
                    raise
                except Exception as error:  # each library of containers has its own errors
                    raise DataError(
                        f"rows {start:,} to {stop - 1:,} cannot be read: {first_line(error)}: check that the file is "
                        "there and whole; with checkpoint= the same call resumes the fit"
                    ) from None
                begun += stop - start


class _Windows(EpochOrder):
    """The windows of one epoch, of which the next is read by a thread while the present one is used."""

    def __init__(self, rows: BlockShuffle, epoch: BlockEpoch):
        self.rows, self.epoch = rows, epoch
        self.thread = ThreadPoolExecutor(1, "pyro_lfm reader")
        self.number, self.window = -1, Window([], torch.empty(0), torch.empty(0))
        # The places of the present window in the order of the epoch.
        self.first = self.last = 0
        self.ahead: tuple[int, Future[Window]] | None = None

    def read(self, start: int, stop: int, into: Mapping[str, Tensor], own: slice = slice(None)) -> Tensor:
        parts, begun = [], start
        first_own, last_own, _ = own.indices(stop - start)
        first_own, last_own = start + first_own, start + last_own
        while begun < stop:
            if not self.first <= begun < self.last:
                self._go_to(bisect_right(self.epoch.starts, begun) - 1)
            first, end = self.first, min(stop, self.last)
            low, high = max(begun, first_own), min(end, last_own)
            if low < high:
                wanted = {name: memory[low - first_own : high - first_own] for name, memory in into.items()}
                self._gather(self.window.places[low - first : high - first], wanted)
            parts.append(self.window.index[begun - first : end - first])
            begun = end
        return torch.cat(parts) if len(parts) != 1 else parts[0]

    def _gather(self, places: Tensor, into: Mapping[str, Tensor]) -> None:
        """Writes the rows at places of the present window."""
        for name, memory in self.rows.buffers[self.number % 2].items():
            if into[name].device.type == "cpu" and into[name].dtype == memory.dtype:
                torch.index_select(memory, 0, places, out=into[name])
            else:
                into[name].copy_(memory.index_select(0, places))

    def _go_to(self, number: int) -> None:
        """Waits for a window, and has the next one read."""
        if self.ahead is None or self.ahead[0] != number:
            self.ahead = number, self.thread.submit(self._window, number)
        self.number, self.window = number, self.ahead[1].result()
        self.first, self.last, self.ahead = self.epoch.starts[number], self.epoch.starts[number + 1], None
        if number + 1 < len(self.epoch.parts):
            self.ahead = number + 1, self.thread.submit(self._window, number + 1)

    def _window(self, number: int) -> Window:
        window = self.epoch.window(number)
        self.rows.fill(window, number)
        return window

    def close(self) -> None:
        self.thread.shutdown(cancel_futures=True)
