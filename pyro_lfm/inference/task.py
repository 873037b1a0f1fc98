"""What ``fit`` hands to a way of inference, and what such a way must be."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pyro_lfm.data.readers import Table
from pyro_lfm.inference.result import Fit
from pyro_lfm.inference.svi.checkpoint import Checkpoint
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.programs.program import Program


@dataclass(frozen=True)
class Task:
    """A model and rows that fit it, read and checked, and how the fit is to be accompanied."""

    model: AnyModel
    table: Table
    validation: Table | None
    seed: int
    callbacks: Sequence[Callable[[dict[str, Any], Fit], Any]]
    progress: bool
    device: torch.device
    checkpoint: Checkpoint | None

    def report(self, record: dict[str, Any], result: Fit) -> bool:
        """Shows a record to every callback; whether one of them asks to stop."""
        return any([_is_true(callback(record, result)) for callback in self.callbacks])


def _is_true(answer: Any) -> bool:
    """Whether it is True, of NumPy or torch too: what else a callback may give back, such as a list, stops nothing."""
    if isinstance(answer, torch.Tensor) and answer.dtype is torch.bool and answer.numel() == 1:
        return bool(answer)
    return isinstance(answer, bool | np.bool_) and bool(answer)


class Inference(ABC):
    """A way to fit a declared model to rows: what ``lfm.fit`` is given."""

    # Whether it can make use of values of latents among the data.
    takes_known_latents = False

    def trains(self, model: AnyModel) -> list[Program]:
        """The programs whose parameters it changes."""
        return [model]

    def draw_first_weights(self, model: AnyModel, seed: int) -> None:
        """Draws the weights that training starts from, of what has not been changed since its declaration."""
        model.draw_first_weights(seed)

    @abstractmethod
    def run(self, task: Task) -> Fit:
        """Fits the task's model in place."""
