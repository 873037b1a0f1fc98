"""``WorkerShuffle``: items of a torch ``Dataset``, or pictures, that worker processes read ahead in training."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pyro_lfm.data.row_order.epoch_order import EpochOrder, ShuffledRows
from pyro_lfm.errors import DataError, first_line

if TYPE_CHECKING:
    from pyro_lfm.data.readers import Table

# The rows that a worker reads at a time.
_PART = 64


class _Parts(Dataset[dict[str, Tensor] | str]):
    """The rows of an epoch in parts, or the words of an error.

    What transforms draw is a function of the seed and the part, whoever reads it.
    """

    def __init__(self, table: Table, order: Tensor, dtype: torch.dtype, seed: int):
        self.table, self.order, self.dtype, self.seed = table, order, dtype, seed

    def __getitem__(self, part: int) -> dict[str, Tensor] | str:
        seed = (self.seed + part) % 2**32
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        index = self.order[part * _PART : (part + 1) * _PART]
        try:
            return self.table.take(index, self.dtype)
        except DataError as error:
            return str(error)
        except Exception as error:  # a Dataset may raise anything
            kind = type(error).__name__
            return f"rows {_listed(index)} of the Dataset cannot be read: {kind}: {first_line(error)}"


class WorkerShuffle(ShuffledRows):
    """All rows are shuffled at once, and processes read them ahead, as those of a ``DataLoader``.

    Args:
        table: the rows. Those of weight 0 are left out.
        dtype: the floating type of the rows.
        workers: the number of processes.
    """

    def __init__(self, table: Table, dtype: torch.dtype, workers: int):
        self.table, self.dtype, self.workers = table, dtype, workers

    def __str__(self) -> str:
        return "all rows shuffled at once"

    def epoch(self, generator: torch.Generator) -> EpochOrder:
        order = torch.randperm(self.table.count, generator=generator)
        order = order if self.table.weights is None else self.table.counted[order]
        # Not drawn from the generator, whose numbers are the same without workers.
        return _Loaded(_Parts(self.table, order, self.dtype, int(order[:4].sum())), self.workers)


class _Loaded(EpochOrder):
    """The rows of one epoch, of which the next parts are read by workers."""

    def __init__(self, parts: _Parts, workers: int):
        self.parts, self.workers = parts, workers
        self.loaded: Iterator[dict[str, Tensor] | str] | None = None
        self.number, self.part = -1, dict[str, Tensor]()

    def read(self, start: int, stop: int, into: Mapping[str, Tensor], own: slice = slice(None)) -> Tensor:
        index = self.parts.order[start:stop]
        places = torch.arange(start, stop)[own]
        for number in range(start // _PART, -(-stop // _PART)):
            self._go_to(number)
            here = (places // _PART == number).nonzero().flatten()
            if len(here):
                rows = slice(int(here[0]), int(here[-1]) + 1)
                for name, values in self.part.items():
                    into[name][rows] = values[places[rows] - number * _PART].to(into[name])
        return index

    def _go_to(self, number: int) -> None:
        if self.loaded is None:
            ahead = range(number, -(-len(self.parts.order) // _PART))
            # The generator is for a seed that nothing uses: without it torch's own stream would move.
            loader = DataLoader(
                self.parts,
                batch_size=None,
                sampler=ahead,
                num_workers=self.workers,
                generator=torch.Generator().manual_seed(0),
            )
            self.loaded, self.number = iter(loader), number - 1
        while self.number < number:
            try:
                part = next(self.loaded)
            except RuntimeError as error:
                raise DataError(
                    f"a worker that reads rows has ended: {first_line(error)}: try fewer workers="
                ) from None
            if isinstance(part, str):
                raise DataError(part)
            self.number, self.part = self.number + 1, part

    def close(self) -> None:
        self.loaded = None  # its workers end with it


def _listed(index: Tensor) -> str:
    return f"{', '.join(map(str, index[:3].tolist()))}{', ...' if len(index) > 3 else ''}"
