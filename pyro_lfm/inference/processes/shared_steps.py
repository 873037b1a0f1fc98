"""``SharedSteps``: the eager engine of one of several processes, which computes its share of each batch."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from pyro.infer import ELBO as PyroELBO

from pyro_lfm.data.batch import Batch
from pyro_lfm.inference.engines.eager import Eager
from pyro_lfm.inference.engines.engine import Setup, bound_parts
from pyro_lfm.inference.processes.gradient_sums import GradientSums, Gradients
from pyro_lfm.inference.processes.group import Processes
from pyro_lfm.inference.processes.row_noise import RowNoise
from pyro_lfm.inference.svi.interruption import Signals


class SharedSteps(Eager):
    """Gradients of the own rows are added up over the processes before the optimizer, once a step.

    Args:
        setup: as of one process. processes: those of the fit. signals: which end the training in all of them.
    """

    def __init__(self, setup: Setup, processes: Processes, signals: Signals):
        super().__init__(setup)
        self.processes = processes
        self.sums = GradientSums(setup, processes, signals, [table.rows for table in self.tables])

    def take(
        self, rows: dict[str, torch.Tensor], index: torch.Tensor, objective: PyroELBO, rate: float, part: str
    ) -> torch.Tensor:
        share = self.processes.share(len(index))
        self._index = index
        return self.step_on(self.setup.batch(rows, index[share.rows], share), objective, rate, part)

    def step_on(
        self,
        batch: Batch,
        objective: PyroELBO,
        rate: float,
        part: str,
        during: AbstractContextManager[None] | None = None,
    ) -> torch.Tensor:
        super().step_on(batch, objective, rate, part, during)
        return self._parts

    def gradients(self, batch: Batch, objective: PyroELBO, part: str) -> tuple[torch.Tensor, Gradients]:
        """The loss of the whole batch and its gradients, as in one process."""
        share = batch.share
        assert share is not None
        parameters = self.trained(part)
        try:
            with RowNoise(share, self.processes.rank):
                loss, gradients = super().gradients(batch, objective, part)
            parts = bound_parts(objective, loss, batch.total_weight)
        except Exception as error:  # a program may raise anything
            self.sums.fail(parameters, self._index, error)
        loss, gradients, self._parts = self.sums.of(share, self._index, loss, gradients, parts)
        return loss, gradients
