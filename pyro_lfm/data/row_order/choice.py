"""Chooses how the rows of a table are shuffled in training: all at once, or block by block where they stay on the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyro_lfm.data.row_order.blocks import Blocks
from pyro_lfm.data.row_order.epoch_order import ShuffledRows, WholeShuffle
from pyro_lfm.data.row_order.window_reader import BlockShuffle

if TYPE_CHECKING:
    from pyro_lfm.data.readers import Table

# Of rows that are shuffled together, where the user names no number; two such buffers are in memory.
_BUFFER_BYTES = 2**27
# Rows of a block, where the user names no number.
_BLOCK = 256


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
    return Blocks(_edges(table, block or (1 if table.is_apart else _BLOCK)), rows, table.weights)


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
