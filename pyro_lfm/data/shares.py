"""``Share``, the rows of a batch that are one process's own where several processes share it, for batches and objectives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Share:
    """The part of a batch that one of several processes computes.

    A process whose part is empty computes the first row for company, with weight 0: all processes run the same programs.

    Args:
        size: the number of rows B of the whole batch.
        first, last: the own rows are those from ``first`` up to, and without, ``last``.
        summed: gives the sum of a tensor over all processes.

    >>> share = Share(5, 2, 5, summed=lambda value: value)
    >>> share.rows, share.fraction
    (slice(2, 5, None), 0.6)
    """

    size: int
    first: int
    last: int
    summed: Callable[[torch.Tensor], torch.Tensor]

    @classmethod
    def of(
        cls, size: int, rank: int, processes: int, summed: Callable[[torch.Tensor], torch.Tensor]
    ) -> Share:
        """The contiguous share of a process; sizes differ by one row at most."""
        return cls(size, rank * size // processes, (rank + 1) * size // processes, summed)

    @property
    def rows(self) -> slice:
        """The places of the rows in the batch that the process computes."""
        return slice(self.first, self.last) if self.last > self.first else slice(0, 1)

    @property
    def fraction(self) -> float:
        """What the mean over the own rows counts for in the mean over the batch."""
        return (self.last - self.first) / self.size

    def weighted(self, value: torch.Tensor) -> torch.Tensor:
        """A mean over the own rows as a term of the mean over the batch, without gradient; nothing of an empty share."""
        return value.detach() * self.fraction if self.fraction else torch.zeros_like(value)

    def mean(self, own: torch.Tensor) -> torch.Tensor:
        """The mean over the batch, given that over the own rows, whose gradient it has.

        So the gradients of a function of such means, weighted by ``fraction`` and added up, are those of the batch.
        """
        return own + (self.summed(self.weighted(own)) - own.detach())
