"""``SharedSteps``: the eager engine of one of several processes, which computes its share of each batch."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from pyro.infer import ELBO as PyroELBO

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DeclarationError
from pyro_lfm.inference.engines.eager import Eager
from pyro_lfm.inference.engines.engine import Setup, bound_parts
from pyro_lfm.inference.processes.gradient_sums import Gradients, GradientSums
from pyro_lfm.inference.processes.group import Processes
from pyro_lfm.inference.processes.noise_of_batch import RowNoise
from pyro_lfm.inference.processes.separable import Trial, check_parts
from pyro_lfm.inference.svi.interruption import Signals

if TYPE_CHECKING:
    from pyro_lfm.inference.svi.loop import Loop

# Rows of the batch that is compared with its shares: a process may have no memory for all that the others compute.
_MOST_ON_TRIAL = 2048

LOG = logging.getLogger("pyro_lfm")


class SharedSteps(Eager):
    """Gradients of the own rows are added up over the processes before the optimizer, once a step.

    Args:
        setup: as of one process. processes: those of the fit. signals: which end the training in all of them.
        announced: whether the objective sums over processes inside of a step; see ``GradientSums``.
    """

    def __init__(self, setup: Setup, processes: Processes, signals: Signals, announced: bool):
        super().__init__(setup)
        self.processes = processes
        tables = [table.rows for table in self.tables]
        self.sums = GradientSums(setup, processes, signals, tables, announced)

    def take(
        self, rows: dict[str, torch.Tensor], index: torch.Tensor, objective: PyroELBO, rate: float, part: str
    ) -> torch.Tensor:
        share = replace(self.processes.share(len(index)), summed=self.sums.inside)
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


def shared_engine(loop: Loop, setup: Setup) -> SharedSteps:
    """The engine of a training loop in one of several processes.

    Raises:
        DeclarationError: a part that several processes cannot train.
    """
    svi, name = loop.svi, loop.svi.chosen_engine
    if name == "pyro":
        raise DeclarationError(
            'engine="pyro" is pyro.infer.SVI, which trains in one process: leave engine= out, or start one process'
        )
    if name != "eager":
        LOG.info("engine: eager, as several processes share each batch")
    check_parts(*setup.programs, svi.objective)
    index = loop.table.counted[: min(loop.batch_size, _MOST_ON_TRIAL)]
    rows = loop.table.take(index, setup.model.dtype, setup.model.device)
    trial = Trial(setup, rows, index.to(setup.model.device), svi.objective)
    return SharedSteps(setup, loop.processes, loop.signals, trial.check(loop.processes))
