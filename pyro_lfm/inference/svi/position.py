"""``Position``, a place inside an epoch: the order of its rows, what is done of it, and its sums so far, for ``Loop``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypedDict

import torch


class PositionState(TypedDict):
    """What a checkpoint keeps of a position."""

    shuffle: torch.Tensor
    first: int
    batches: int
    sums: torch.Tensor
    seconds: float


class Position:
    """A place inside an epoch, from which a fit can go on.

    Args:
        shuffle: the random stream of the order of the rows, as it was before the epoch.
        first: the number of steps before the epoch.

    Attributes:
        batches: the number of batches that are done.
        sums: sums over the rows of the steps that were taken: bound, reconstruction and KL in nats, and 1.
    """

    def __init__(self, shuffle: torch.Tensor, first: int):
        self.shuffle, self.first = shuffle, first
        self.batches = 0
        self.sums: torch.Tensor | None = None
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """The seconds that the epoch has taken so far, before interruptions too."""
        return time.perf_counter() - self._began

    def add(self, sizes: Sequence[int], results: torch.Tensor) -> list[bool]:
        """Adds n batches of so many rows, and [bound, reconstruction, KL, 1] of each in nats per row, (n, 4), zeros if it
        was skipped.

        They are added one after the other on the CPU, so that the sums do not depend on how many come at a time.

        Returns:
            For each batch, whether its step was taken.
        """
        values = results.double()
        weighted = values.new_tensor(sizes)[:, None] * values
        before = torch.zeros_like(weighted[:1]) if self.sums is None else self.sums[None]
        self.sums = torch.cat([before, weighted]).cumsum(0)[-1]
        self.batches += len(sizes)
        return (values[:, 3] > 0).tolist()

    @property
    def means(self) -> list[float]:
        """The means over the rows of the steps taken so far of bound, reconstruction and KL, nats per row."""
        assert self.sums is not None
        return (self.sums[:3] / self.sums[3]).tolist()

    def state(self) -> PositionState:
        sums = torch.zeros(0) if self.sums is None else self.sums
        return {
            "shuffle": self.shuffle,
            "first": self.first,
            "batches": self.batches,
            "sums": sums,
            "seconds": self.seconds,
        }

    @classmethod
    def of(cls, state: PositionState, device: torch.device) -> Position:
        """The position of a state."""
        position = cls(state["shuffle"], state["first"])
        position.batches = state["batches"]
        position.sums = state["sums"].to(device) if len(state["sums"]) else None
        position._began -= state["seconds"]
        return position
