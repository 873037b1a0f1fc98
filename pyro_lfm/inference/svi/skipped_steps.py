"""``SkippedSteps``: counts the steps that the training loop skips, warns of the first, and says when the fit must end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from pyro_lfm.errors import warn
from pyro_lfm.inference.svi.failure import FailedStep, NotFinite
from pyro_lfm.inference.svi.faults import fault_of_parameter, fault_of_values
from pyro_lfm.warning_kinds import SkippedStepWarning

# Gives a step by the numbers of its rows, and by how many consecutive steps were skipped, it included.
Step = Callable[[torch.Tensor, int], FailedStep]


class SkippedSteps:
    """The steps of a fit that were skipped, as their loss or a gradient was not finite.

    Args:
        limit: the most consecutive steps that may be skipped.

    Attributes:
        in_a_row: the number of skipped steps since the last one that was taken.
        of_epoch: the number of skipped steps of the epoch.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.in_a_row = self.of_epoch = 0
        self._fault = NotFinite()
        self._warned = False

    def state(self) -> dict[str, int]:
        """What a checkpoint keeps."""
        return {"in_a_row": self.in_a_row, "of_epoch": self.of_epoch}

    def load(self, state: dict[str, int]) -> None:
        self.in_a_row, self.of_epoch = state["in_a_row"], state["of_epoch"]

    def begin_epoch(self) -> None:
        self.of_epoch = 0

    def count(
        self, taken: Sequence[bool], rows: Sequence[torch.Tensor], fault: NotFinite | None, step_of: Step
    ) -> None:
        """Counts some steps.

        Args:
            taken: for each step, whether it was taken.
            rows: for each step, the numbers of its rows.
            fault: why the last of the skipped steps was skipped, if it is known.

        Raises:
            TrainingError: more consecutive steps were skipped than may be, or a parameter is not finite, which no step
                cures.
        """
        self._fault = fault or NotFinite()
        for was_taken, own in zip(taken, rows, strict=True):
            if was_taken:
                self.in_a_row = 0
                continue
            self.in_a_row, self.of_epoch = self.in_a_row + 1, self.of_epoch + 1
            step = step_of(own, self.in_a_row)
            if self.in_a_row > self.limit or step.broken_parameter() is not None:
                raise step.error(fault_of_values(step, self._fault)) from None
            if not self._warned:
                self._warned = True
                self._warn(step)

    def _warn(self, step: FailedStep) -> None:
        fault = fault_of_values(step, self._fault)
        remedies = f" Remedies: {', '.join(fault.remedies)}." if fault.remedies else ""
        warn(
            f"a step was skipped, which moved no parameter: {step.words(fault)}. fit.skipped counts such steps, and more "
            f"than {self.limit} in a row end the fit, see SVI(max_skipped=).{remedies}",
            SkippedStepWarning,
        )

    def end_epoch(self, steps: int, total: int, rows: torch.Tensor, step_of: Step) -> int:
        """The number of steps of the epoch that were skipped.

        Args:
            steps, total: the number of steps of the epoch, and of the whole fit.
            rows: the numbers of the rows of the last step.

        Raises:
            TrainingError: no step of the epoch was taken (of several, as one alone may have been unlucky), or none of the
                whole fit, or a step has made a parameter infinite.
        """
        step = step_of(rows, self.in_a_row)
        if self.in_a_row >= (steps if steps > 1 else total):
            raise step.error(fault_of_values(step, self._fault)) from None
        if (name := step.good.broken()) is not None:
            raise step.error(fault_of_parameter(step, name)) from None
        return self.of_epoch
