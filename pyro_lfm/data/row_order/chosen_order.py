"""Chooses how the rows of a table are shuffled in training: all at once, or block by block where they stay on the disk."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyro_lfm.data.row_order.epoch_order import ShuffledRows, WholeShuffle
from pyro_lfm.data.row_order.shuffled_blocks import Blocks
from pyro_lfm.data.row_order.window_reader import BlockShuffle
from pyro_lfm.errors import RowOrderWarning, warn

if TYPE_CHECKING:
    from pyro_lfm.data.readers import Table

# Of rows that are shuffled together, where the user names no number; two such buffers are in memory.
_BUFFER_BYTES = 2**27
# Rows of a block, where the user names no number: so many that a block takes this many bytes, and no more than these.
_BLOCK_BYTES, _BLOCK = 2**17, 256


def blocks_of(table: Table, dtype: torch.dtype, block: int | None, buffer: int | None) -> Blocks | None:
    """The blocks in which the rows of a table are read and shuffled; None where all rows are shuffled at once.

    All rows are shuffled at once where one buffer holds them, or where they are in memory and the user names no block. A
    block has at least ``block`` rows and is made of whole chunks of the file.

    Args:
        dtype: the floating type of rows in the buffer.
        block: rows that are read together.
        buffer: rows that are shuffled together; by default as many as take 128 MiB.

    >>> from pyro_lfm.data.readers import read
    >>> table = read(torch.zeros(1000, 2), ["x"])
    >>> blocks_of(table, torch.float32, None, None)
    >>> blocks_of(table, torch.float32, 100, 250).windows
    4
    """
    if block is None and not table.is_stored:
        return None
    row = sum(shape.numel() for shape in table.event_shapes.values()) * dtype.itemsize
    rows = max(1, _BUFFER_BYTES // max(1, row)) if buffer is None else buffer
    if len(table) <= rows:
        return None
    default = 1 if table.is_apart else max(1, min(_BLOCK, _BLOCK_BYTES // max(1, row)))
    return Blocks(_edges(table, block or default), rows, table.weights)


def warn_of_sorted(table: Table, blocks: Blocks | None, batch_size: int) -> None:
    """Warns where the rows that are shuffled together differ more from the whole than a batch of random rows does.

    Of blocks whose rows have the intraclass correlation ρ, the mean of a column over G blocks varies by ρ σ² / G, and that
    over a batch of B rows in random order by σ² / B. The training would follow the first, window after window.

    Args:
        table: rows that were validated.
        batch_size: rows of a batch, B.
    """
    if blocks is None or blocks.windows == 1:
        return
    together, length = len(blocks.lengths) / blocks.windows, len(table) / len(blocks.lengths)
    name = max(table.likeness, key=lambda each: table.likeness[each])
    enough = table.likeness[name] * batch_size
    if enough <= together:
        return
    warn(
        f"the rows of {name} are sorted: neighbours are alike (intraclass correlation {table.likeness[name]:.2g}), and only "
        f"{together:.0f} blocks of about {length:.0f} rows are shuffled together. Write the file in random order once, by "
        f"lfm.data.shuffle(path, out) or pyro-lfm data shuffle IN OUT; or give lfm.SVI buffer={ceil(enough * length)} rows, "
        "of which twice as many are in memory, or a smaller block=",
        RowOrderWarning,
    )


def shuffled_rows(table: Table, dtype: torch.dtype, blocks: Blocks | None) -> ShuffledRows:
    """The rows of a table in their order."""
    return WholeShuffle(table) if blocks is None else BlockShuffle(table, blocks, dtype)


def _edges(table: Table, block: int) -> Tensor:
    """The first row of each block, and the number of rows."""
    starts = table.chunk_starts
    if starts is None:
        size = -(-block // table.chunk) * table.chunk
        return torch.cat([torch.arange(0, len(table), size), torch.tensor([len(table)])])
    kept = [0]
    for start in starts[1:].tolist():
        if start - kept[-1] >= block:
            kept.append(start)
    return torch.tensor([*kept, len(table)])
