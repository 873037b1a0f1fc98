"""``WeightSums``: what importance sampling keeps of log weights while draws stream."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_lfm.evaluate.calibration.pareto import k_of_largest, tail_size

# Numbers of log weights that wait, so that the largest are not sought too often.
_WAITING = 2**19


class WeightSums:
    """What is kept of the log weights of some rows while draws stream: sums, and those that may be among the largest.

    Args:
        draws: S, of all parts together.
    """

    def __init__(self, draws: int):
        self._tail = tail_size(draws) + 1
        self._clear()

    def add(self, log_w: Tensor) -> None:
        """Adds the log weights of some draws of each row, (draws, B)."""
        self._waiting.append(log_w.double())
        self._numbers += log_w.numel()
        if self._numbers > _WAITING:
            self._fold()

    def taken(self) -> Tensor:
        """The logarithms of the sums of the weights and of their squares, and k̂, (3, B). The next rows may follow."""
        self._fold()
        assert self._sums is not None  # for the type checker
        result = torch.stack([*self._sums, k_of_largest(self._top.mT)])
        self._clear()
        return result

    def _clear(self) -> None:
        self._waiting: list[Tensor] = []
        self._numbers = 0
        self._sums: Tensor | None = None
        self._top = torch.empty(0, 0, dtype=torch.float64)

    def _fold(self) -> None:
        if not self._waiting:
            return
        log_w = torch.cat(self._waiting)
        self._waiting, self._numbers = [], 0
        sums = torch.stack([log_w.logsumexp(0), (2 * log_w).logsumexp(0)])
        by_row = log_w.mT.contiguous()
        if self._sums is not None:
            sums = torch.logaddexp(self._sums, sums)
            by_row = torch.cat([self._top, by_row], 1)
        self._sums, self._top = sums, by_row.topk(min(self._tail, by_row.shape[1]), 1).values
