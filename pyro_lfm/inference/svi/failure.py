"""``FailedStep``, a step that failed in training, its ``Fault``, and the ``TrainingError`` made of both.

The training loop of ``SVI`` uses it, with the faults that ``faults`` finds, and the engines raise ``NotFinite``.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import TrainingError
from pyro_lfm.inference.svi.snapshots import Snapshot
from pyro_lfm.programs.program import Program


class NotFinite(ArithmeticError):
    """A loss, or the gradients of some parameters, are NaN or infinite. The step has changed nothing.

    Args:
        parameters: those whose gradient is not finite, or too large for its square to be.
        of: what is not finite: "loss", "gradient", or "square of the gradient", of which optimizers keep an average.
        everywhere: whether no gradient is finite, so that the parameters do not tell where it began.
        refusal: the error of a distribution that was given numbers that are not finite.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter] = (),
        of: str = "loss",
        everywhere: bool = False,
        refusal: Exception | None = None,
    ):
        super().__init__("not finite")
        self.parameters, self.of, self.everywhere, self.refusal = parameters, of, everywhere, refusal


@dataclass(frozen=True)
class FailedStep:
    """A step that failed.

    Attributes:
        model, guide: as they are after the step.
        rows: the numbers of the rows of the step.
        batch: the rows; None if the device has failed and does not give them.
        batch_size, total: rows of a full batch, and of the data.
        epoch: the number of the epoch.
        good: the weights at the start of the epoch.
        during: "epoch" or "the validation after epoch".
        in_a_row: how many consecutive steps were skipped, this one included.
        saved: the folder of the last checkpoint of the fit and its epoch, if it has one.
    """

    model: Program
    guide: Program
    rows: list[int]
    batch: Batch | None
    batch_size: int
    total: int
    epoch: int
    good: Snapshot
    during: str = "epoch"
    in_a_row: int = 0
    saved: tuple[Path, int] | None = None

    @property
    def programs(self) -> dict[str, Program]:
        return {"model": self.model, "guide": self.guide}

    def broken_parameter(self) -> str | None:
        """The name of a trained parameter that is itself not finite."""
        for kind, program in self.programs.items():
            for name, parameter in program.named_parameters():
                if parameter.requires_grad and not bool(parameter.isfinite().all()):
                    return f"{kind}.{name}"
        return None

    def words(self, fault: Fault) -> str:
        """What happened, where, and on which rows."""
        shown = ", ".join(map(str, self.rows[:10])) + (", ..." if len(self.rows) > 10 else "")
        parts = [f"{fault.happened} in {self.during} {self.epoch}"]
        parts += [] if fault.factor is None else [f"factor {fault.factor}"]
        parts += [] if fault.parameter is None else [f"parameter {fault.parameter}"]
        parts += [] if fault.place is None else [fault.place]
        parts += [f"on the batch of rows [{shown}]"] * bool(self.rows)
        return ", ".join(parts)

    def error(self, fault: Fault) -> TrainingError:
        """Restores the good weights, and gives the error."""
        try:
            self.good.restore()
            restored = f"the weights from before epoch {self.epoch} are restored"
        except RuntimeError:  # a GPU that has failed takes no more orders
            restored = "the weights are lost, as the device takes no more orders"
        skipped = [f"{self.in_a_row} steps in a row were skipped"] * (self.in_a_row > 1)
        words = "; ".join([self.words(fault), *skipped, restored, *self._saved()])
        end = f". Remedies: {', '.join(fault.remedies)}" if fault.remedies else ""
        error = TrainingError(f"{words}{end}")
        error.epoch, error.factor, error.parameter = self.epoch, fault.factor, fault.parameter
        error.rows = self.rows
        return error

    def _saved(self) -> list[str]:
        """A sentence about the last checkpoint, and how to go on from it."""
        if self.saved is None:
            return []
        path, epoch = self.saved
        how = " with a larger max_skipped" * (self.in_a_row > 0)
        return [
            f"checkpoint {path} holds the fit after epoch {epoch}: the same call goes on from it{how}, and a fit of the "
            "restored model with other options needs a checkpoint of its own"
        ]


@dataclass(frozen=True)
class Fault:
    """What went wrong in a step, and where, as far as it is known.

    Attributes:
        happened: what went wrong.
        remedies: what the user can do.
        factor, parameter, place: where.
    """

    happened: str
    remedies: list[str]
    factor: str | None = None
    parameter: str | None = None
    place: str | None = None


def of_numbers_not_finite(error: Exception) -> bool:
    """Whether an error comes from numbers that are not finite, or from a matrix that rounding made singular.

    Such an error is raised by a distribution that was given NaN or infinite parameters or values.
    """
    if isinstance(error, torch.linalg.LinAlgError):
        return True
    frames = list(traceback.walk_tb(error.__traceback__))
    if not frames or ".distributions" not in f".{frames[-1][0].f_globals.get('__name__')}":
        return False
    values = frames[-1][0].f_locals.values()
    return any(
        isinstance(value, torch.Tensor) and value.is_floating_point() and not bool(value.isfinite().all())
        for value in values
    )
