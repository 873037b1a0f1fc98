"""``Inference``, the base class of ``SVI``, ``EM`` and others, and ``Task``, what ``fit`` gives it to do."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch

from pyro_lfm.data.readers import Table
from pyro_lfm.declarations import PartWithState
from pyro_lfm.inference.fitted import Callback, Fit, Record
from pyro_lfm.inference.processes.group import Processes
from pyro_lfm.inference.svi.checkpoint import Checkpoint
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.programs.program import Program


@dataclass(frozen=True)
class Task:
    """One fit to do: a model, rows that fit it, read and checked, and the arguments of ``lfm.fit``."""

    model: AnyModel
    table: Table
    validation: Table | None
    seed: int
    callbacks: Sequence[Callback]
    progress: bool
    device: torch.device
    checkpoint: Checkpoint | None
    processes: Processes = field(default_factory=Processes)

    @cached_property
    def calls_back(self) -> bool:
        """Whether the first process has callbacks."""
        return self.processes.first(lambda: bool(self.callbacks))

    def report(self, record: Record, result: Fit) -> bool:
        """Calls every callback with a record, in the first process; whether one of them returned True, to stop."""
        if not self.calls_back:
            return False
        return self.processes.first(
            lambda: any([_is_true(callback(record, result)) for callback in self.callbacks])
        )


def _is_true(answer: bool | np.bool_ | torch.Tensor | None) -> bool:
    """Whether an answer is True, of NumPy or torch too. Other values, such as a list, stop nothing."""
    if isinstance(answer, torch.Tensor) and answer.dtype is torch.bool and answer.numel() == 1:
        return bool(answer)
    return isinstance(answer, bool | np.bool_) and bool(answer)


class Inference(PartWithState):
    """How a model is fitted to rows: the third argument of ``lfm.fit``. A declaration, which no fit changes.

    >>> import pyro_lfm as lfm, torch
    >>> [isinstance(kind(), lfm.Inference) for kind in (lfm.EM, lfm.VariationalEM, lfm.VariationalBayes)]
    [True, True, True]
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> z, noise = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)).split([1, 3], 1)
    >>> lfm.fit(model, z + noise, lfm.EM(), seed=0, progress=False).inference
    EM()
    """

    # Whether it uses values of latents that the data hold.
    takes_known_latents: ClassVar[bool] = False
    # Whether it fits the weighted bound, so that rows may have weights.
    takes_weights: ClassVar[bool] = False

    def trains(self, model: AnyModel) -> list[Program]:
        """The programs whose parameters a fit changes."""
        return [model]

    def draw_first_weights(self, model: AnyModel, seed: int) -> None:
        """Draws the first weights of every program whose weights are still those of its declaration."""
        model.draw_first_weights(seed)

    @abstractmethod
    def run(self, task: Task) -> Fit:
        """Fits the task's model in place, and leaves ``self`` as it is."""
