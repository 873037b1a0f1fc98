"""Chooses how the rows of a table are shuffled in training: all at once, or block by block where they stay on the disk."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyro_lfm.data.opened_rows import Stored
from pyro_lfm.data.row_order.epoch_order import ShuffledRows, WholeShuffle
from pyro_lfm.data.row_order.item_workers import WorkerShuffle
from pyro_lfm.data.row_order.shuffled_blocks import Blocks
from pyro_lfm.data.row_order.window_reader import BlockShuffle
from pyro_lfm.errors import DataError, warn
from pyro_lfm.warning_kinds import RowOrderWarning

if TYPE_CHECKING:
    from pyro_lfm.data.readers import Table

# Of rows that are shuffled together, where the user names no number; two such buffers are in memory.
_BUFFER_BYTES = 2**27
# Rows of a block, where the user names no number: so many that a block takes this many bytes, and no more than these.
_BLOCK_BYTES, _BLOCK = 2**17, 256


def shuffled_rows(
    table: Table,
    dtype: torch.dtype,
    block: int | None,
    buffer: int | None,
    batch_size: int,
    workers: int = 0,
) -> ShuffledRows:
    """The rows of a table in their orders, with a warning where they are sorted and would be mixed badly.

    All rows are shuffled at once where one buffer holds them, or where they are in memory and the user names no block. A
    block has at least ``block`` rows and is made of whole chunks of the file.

    Args:
        table: rows that were validated.
        dtype: the floating type of rows in the buffer.
        block: rows that are read together.
        buffer: rows that are shuffled together; by default as many as take 128 MiB.
        batch_size: rows of a batch.
        workers: processes that read items of a torch ``Dataset`` or pictures.

    Raises:
        DataError: workers for other rows than these.

    >>> from pyro_lfm.data.readers import read
    >>> table = read(torch.zeros(1000, 2), ["x"])
    >>> print(shuffled_rows(table, torch.float32, None, None, 128))
    all rows shuffled at once
    >>> print(shuffled_rows(table, torch.float32, 100, 250, 128))
    10 blocks of up to 100 rows in 4 windows, 5b6c56eb
    """
    stored = table.stored
    if workers:
        if not (table.by_item or (stored and stored.apart)) or block is not None:
            raise DataError(
                f"workers are for items of a torch Dataset and for pictures, without block=; the rows of "
                f"{', '.join(table.names)} are read by a thread: leave workers out"
            )
        return WorkerShuffle(table, dtype, workers)
    row = sum(shape.numel() for shape in table.event_shapes.values()) * dtype.itemsize
    rows = max(1, _BUFFER_BYTES // max(1, row)) if buffer is None else buffer
    if len(table) <= rows or (stored is None and block is None):
        return WholeShuffle(table)
    stored = stored or Stored()
    default = 1 if stored.apart else max(1, min(_BLOCK, _BLOCK_BYTES // max(1, row)))
    blocks = Blocks(_edges(len(table), stored, block or default), rows, table.weights)
    if blocks.windows == 1:
        return WholeShuffle(table)
    _warn_of_sorted(table, blocks, batch_size)
    return BlockShuffle(table, blocks, dtype)


def _edges(rows: int, stored: Stored, block: int) -> Tensor:
    """The first row of each block, and the number of rows."""
    if stored.starts is None:
        size = -(-block // stored.chunk) * stored.chunk
        return torch.cat([torch.arange(0, rows, size), torch.tensor([rows])])
    kept = [0]
    for start in stored.starts[1:].tolist():
        if start - kept[-1] >= block:
            kept.append(start)
    return torch.tensor([*kept, rows])


def _warn_of_sorted(table: Table, blocks: Blocks, batch_size: int) -> None:
    """Warns where the rows that are shuffled together differ more from the whole than a batch of random rows does.

    Of blocks whose rows have the intraclass correlation ρ, the mean of a column over G blocks varies by ρ σ² / G, and that
    over a batch of B rows in random order by σ² / B. The training would follow the first, window after window.
    """
    name = max(table.likeness, key=lambda each: table.likeness[each], default="")
    together, length = len(blocks.lengths) / blocks.windows, len(table) / len(blocks.lengths)
    enough = table.likeness.get(name, 0.0) * batch_size
    if enough <= together:
        return
    warn(
        f"the rows of {name} are sorted: neighbours are alike (intraclass correlation {table.likeness[name]:.2g}), and only "
        f"{together:.0f} blocks of about {length:.0f} rows are shuffled together. Write the file in random order once, by "
        f"lfm.data.shuffle(path, out) or pyro-lfm data shuffle IN OUT; or give lfm.SVI buffer={ceil(enough * length)} rows, "
        "of which twice as many are in memory, or a smaller block=",
        RowOrderWarning,
    )
