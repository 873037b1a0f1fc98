"""``Blocks`` of rows that lie together on the disk, and the windows of blocks that an epoch goes through."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from zlib import crc32

import torch
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """Some blocks of rows, which are in memory together.

    Attributes:
        spans: the first row of each run of consecutive rows, and the one after its last, in the order of the file.
        places: the places of the rows that count among those of the spans, in the order of the epoch.
        index: the numbers of these rows in the whole data.
    """

    spans: list[tuple[int, int]]
    places: Tensor
    index: Tensor


class Blocks:
    """Rows in blocks of consecutive ones. In each epoch the blocks are shuffled, and the rows of some blocks at a time.

    Args:
        edges: the first row of each block, and the number of rows N: (blocks + 1,), increasing from 0.
        buffer: the number of rows that are shuffled together, at least; a block at the least.
        weights: of the rows, (N,). Those of weight 0 are left out.

    Attributes:
        windows: the number of windows of an epoch, at most. Each has the same share of the rows, up to a block: a last
            window of one block would be a bad sample of them.
        most: the largest number of rows that a window may have.

    >>> blocks = Blocks(torch.tensor([0, 2, 4, 5]), buffer=4)
    >>> blocks.windows, blocks.most
    (2, 4)
    """

    def __init__(self, edges: Tensor, buffer: int, weights: Tensor | None = None):
        self.edges, self.weights = edges, weights
        self.lengths = edges.diff()
        rows, longest = int(edges[-1]), int(self.lengths.max())
        self.windows = min(len(self.lengths), -(-rows // max(buffer, longest)))
        self.even = bool((self.lengths[:-1] == longest).all())
        share = (
            -(-len(self.lengths) // self.windows) * longest if self.even else rows // self.windows + longest
        )
        self.most = min(rows, share)
        self.counts = self.lengths if weights is None else _counted(weights, edges)

    def __str__(self) -> str:
        layout = crc32(self.edges.numpy().data)
        return f"{len(self.lengths)} blocks of up to {int(self.lengths.max())} rows in {self.windows} windows, {layout:08x}"

    def epoch(self, generator: torch.Generator) -> BlockEpoch:
        """The windows of an epoch, drawn from the generator."""
        order = torch.randperm(len(self.counts), generator=generator)
        return BlockEpoch(self, order, int(torch.randint(2**62, (), generator=generator)))


class BlockEpoch:
    """The windows of one epoch.

    Args:
        blocks: all blocks.
        order: of the blocks.
        seed: of the orders of rows in the windows.

    Attributes:
        starts: the place of the first row of each window in the order of the epoch, and the number of all rows.
    """

    def __init__(self, blocks: Blocks, order: Tensor, seed: int):
        self.blocks, self.seed = blocks, seed
        self.parts = [part.sort().values for part in order.split(_sizes(blocks, order))]
        self.starts = [0, *accumulate(int(blocks.counts[part].sum()) for part in self.parts)]

    def window(self, number: int) -> Window:
        """The blocks of a window, and the order of their rows, which depends on nothing but the seed and the number."""
        first, last = self.blocks.edges[self.parts[number]], self.blocks.edges[self.parts[number] + 1]
        lengths = last - first
        rows = torch.arange(int(lengths.sum())) + (first - lengths.cumsum(0) + lengths).repeat_interleave(
            lengths
        )
        weights, generator = self.blocks.weights, torch.Generator().manual_seed((self.seed + number) % 2**63)
        counted = None if weights is None else (weights[rows] > 0).nonzero().flatten()
        places = torch.randperm(len(rows) if counted is None else len(counted), generator=generator)
        places = places if counted is None else counted[places]
        begins = torch.cat([torch.ones(1, dtype=torch.bool), first[1:] != last[:-1]])
        ends = torch.cat([begins[1:], torch.ones(1, dtype=torch.bool)])
        return Window([*zip(first[begins].tolist(), last[ends].tolist(), strict=True)], places, rows[places])


def _sizes(blocks: Blocks, order: Tensor) -> list[int]:
    """The number of blocks of each window, so that windows have about as many rows."""
    number = torch.arange(len(order))
    if blocks.even:
        share = number * blocks.windows // len(order)
    else:  # by the middle of each block in the order
        lengths = blocks.lengths[order]
        share = (2 * lengths.cumsum(0) - lengths) * blocks.windows // (2 * int(blocks.edges[-1]))
    return share.unique_consecutive(return_counts=True)[1].tolist()  # type: ignore[no-any-return]


def _counted(weights: Tensor, edges: Tensor) -> Tensor:
    """The number of rows of each block whose weight is not 0."""
    up_to = torch.cat([torch.zeros(1, dtype=torch.long), (weights > 0).cumsum(0)])
    return up_to[edges].diff()
