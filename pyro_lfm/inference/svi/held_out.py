"""``HeldOut``: the bound on the validation rows, which the training loop measures after every epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pyro_lfm.data.readers import Table
from pyro_lfm.data.shares import Share
from pyro_lfm.inference.engines.engine import evaluate
from pyro_lfm.inference.processes.noise_of_batch import noise_of
from pyro_lfm.inference.queries.unseen_rows import fit_rows
from pyro_lfm.runtime import Stream

if TYPE_CHECKING:
    from pyro_lfm.inference.svi.loop import Loop


class HeldOut:
    """The validation rows of a training loop, with the same noise after every epoch.

    Attributes:
        index: the numbers of the rows that are being evaluated.
    """

    def __init__(self, loop: Loop, rows: Table):
        self.loop, self.rows = loop, rows
        self.index = torch.arange(len(rows))
        self.stream = Stream(loop.seed + 1, loop.model.device)

    def bound(self) -> float:
        """The bound in nats per row, of which several processes compute a share each."""
        if self.loop.guide.tables:
            return self._bound_with_tables()
        processes, total = self.loop.processes, 0.0
        for index in self.rows.blocks(self.loop.batch_size):
            self.index, share = index, processes.share(len(index))
            with noise_of(share, processes.rank):
                mean = self._bound_of(index[share.rows], share)
            total += (share.last - share.first) * mean if share.fraction else 0.0
        on_device = torch.tensor(total, dtype=torch.float64, device=self.loop.model.device)
        return float(processes.summed(on_device)) / len(self.rows)

    def _bound_of(self, index: torch.Tensor, share: Share) -> float:
        loop = self.loop
        batch = loop.batch(self.rows, index, share)
        return evaluate(loop.model, loop.guide, loop.svi.objective, batch, self.stream)[0]

    def _bound_with_tables(self) -> float:
        """The bound with PerRow parameters that are optimised for these rows; every process does all of it."""
        loop = self.loop
        whole = loop.batch(self.rows, self.index)
        # The tables of the last epoch are a good start.
        start = loop.held_out_tables
        guide = fit_rows(loop.model, loop.guide, whole, steps=50 if start else 500, start=start)
        loop.held_out_tables = [table.rows.detach() for table in guide.tables]
        return evaluate(loop.model, guide, loop.svi.objective, whole, self.stream)[0]
