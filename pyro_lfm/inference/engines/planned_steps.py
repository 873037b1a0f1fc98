"""``PlannedSteps``: the steps that come next in an epoch, which an engine takes one by one or several at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from pyro.infer import ELBO as PyroELBO

Moment = tuple[PyroELBO, float, str]


@dataclass(slots=True)
class PlannedStep:
    """One step that is to be taken; see ``Engine.take`` for its fields."""

    rows: dict[str, torch.Tensor]
    index: torch.Tensor
    objective: PyroELBO
    rate: float
    part: str


class PlannedSteps:
    """The next steps of an epoch.

    Args:
        batches: the numbers of the rows and the rows of each step. They may share memory: those of a step are valid until
            the one after it is looked at.
        first: the number of the first step in the fit.
        moment: the objective, the factor of the learning rates and the part that is trained, at a step of the fit.
        look: called before each step is looked at.

    >>> rows = {"x": torch.zeros(2, 1)}
    >>> steps = PlannedSteps([(torch.arange(2), rows)], 7, lambda step: (None, 0.1 * step, "both"))
    >>> steps.next_one().rate, steps.take().part, steps.next_one()
    (0.7..., 'both', None)
    """

    def __init__(
        self,
        batches: Iterable[tuple[torch.Tensor, dict[str, torch.Tensor]]],
        first: int,
        moment: Callable[[int], Moment],
        look: Callable[[], None] | None = None,
    ):
        self._planned = self._plan(batches, first, moment, look)
        self._waiting: deque[PlannedStep] = deque()
        # The rows of the last step that was taken, for the message of an error.
        self.index: torch.Tensor | None = None

    def next_one(self) -> PlannedStep | None:
        """The next step, which stays the next; None after the last."""
        if not self._waiting:
            # None while rows are fetched, so that an error there is not that of a step.
            before, self.index = self.index, None
            if (step := next(self._planned, None)) is not None:
                self._waiting.append(step)
            self.index = before
        return self._waiting[0] if self._waiting else None

    def take(self) -> PlannedStep:
        """The next step, which is then done or put back."""
        step = self.next_one()
        assert step is not None
        self.index = step.index
        return self._waiting.popleft()

    def put_back(self, steps: Sequence[PlannedStep]) -> None:
        """Makes steps that were taken the next ones again, in this order. Their rows must not lie in shared memory."""
        self._waiting.extendleft(reversed(steps))

    @staticmethod
    def _plan(
        batches: Iterable[tuple[torch.Tensor, dict[str, torch.Tensor]]],
        first: int,
        moment: Callable[[int], Moment],
        look: Callable[[], None] | None,
    ) -> Iterator[PlannedStep]:
        for number, (index, rows) in enumerate(batches, first):
            if look is not None:
                look()
            yield PlannedStep(rows, index, *moment(number))
