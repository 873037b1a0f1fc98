"""Blocks of rows with weights, as exact inference reads them: each row enters every sum as often as its weight says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from pyro_lfm.errors import ShapeError


class WeightedRows(Iterable[Tensor]):
    """Blocks x (B, D) whose rows have weights. Rows of weight 0 are left out.

    Args:
        blocks: x (B, D), iterated over once in each pass, always in the same order.
        weights: of all rows, (N,), ≥ 0. An integer weight is the same as a row that is repeated so often.

    Raises:
        ShapeError: when it is iterated over, blocks that have not N rows together.

    >>> rows = WeightedRows([torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0]])], torch.tensor([2.0, 0.0, 1.0]))
    >>> [(x.tolist(), weights.tolist()) for x, weights in rows.pairs()]
    [([[1.0]], [2.0]), ([[3.0]], [1.0])]
    """

    def __init__(self, blocks: Iterable[Tensor], weights: Tensor):
        self.blocks = blocks
        self.weights = torch.as_tensor(weights, dtype=torch.float64)

    def __iter__(self) -> Iterator[Tensor]:
        return (x for x, _ in self.pairs())

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """A pass over the blocks with the weights of their rows, (B,)."""
        done = 0
        for x in self.blocks:
            weights = self.weights[done : done + len(x)]
            done += len(x)
            if len(weights) < len(x):
                break
            counted = weights > 0
            if bool(counted.all()):
                yield x, weights
            elif bool(counted.any()):
                yield x[counted], weights[counted]
        if done != len(self.weights):
            raise ShapeError(
                f"weights must be one for each row; got {len(self.weights)} for {done} rows or more"
            )


def pairs_of(rows: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor | None]]:
    """A pass over blocks with the weights of their rows, None where each row counts once.

    >>> [weights for _, weights in pairs_of([torch.zeros(2, 1)])]
    [None]
    """
    if isinstance(rows, WeightedRows):
        yield from rows.pairs()
    else:
        yield from ((x, None) for x in rows)
