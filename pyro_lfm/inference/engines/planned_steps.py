"""``PlannedSteps``: the steps that come next in an epoch, which an engine takes one by one or several at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from pyro.infer import ELBO as PyroELBO

from pyro_lfm.data.feed import Batches


class Moment(NamedTuple):
    """The objective, the factor of the learning rates and the part that is trained, at a step of the fit."""

    objective: PyroELBO
    rate: float
    part: str


@dataclass(slots=True)
class PlannedStep:
    """One step that is to be taken; see ``Engine.take`` for its fields."""

    rows: dict[str, torch.Tensor]
    index: torch.Tensor
    moment: Moment


class PlannedSteps:
    """The next steps of an epoch.

    Args:
        batches: those of the steps.
        first: the number of the first step in the fit.
        moment: that of a step of the fit.
        look: called before each step is looked at.
    """

    def __init__(
        self,
        batches: Batches,
        first: int,
        moment: Callable[[int], Moment],
        look: Callable[[], None] | None = None,
    ):
        self._batches, self._number, self._moment, self._look = batches, first, moment, look
        self._again: deque[PlannedStep] = deque()
        # Of the next step, once it was looked at.
        self._next: Moment | None = None
        # The rows of the last step that was taken, for the message of an error. None while rows are fetched, so that an
        # error there is not that of a step.
        self.index: torch.Tensor | None = None

    @property
    def again(self) -> bool:
        """Whether the next step is one that was put back."""
        return bool(self._again)

    def coming(self) -> tuple[int, Moment]:
        """The number of rows of the next step, which there must be, and its moment."""
        if self._again:
            return len(self._again[0].index), self._again[0].moment
        if self._next is None:
            if self._look is not None:
                self._look()
            self._next = self._moment(self._number)
        return self._batches.size, self._next

    def take(self) -> PlannedStep:
        """The next step, which is then done or put back. Its rows are valid until the one after it is taken."""
        if self._again:
            step = self._again.popleft()
        else:
            self.index = None
            _, moment = self.coming()
            index, rows = next(self._batches)
            step = PlannedStep(rows, index, moment)
            self._number, self._next = self._number + 1, None
        self.index = step.index
        return step

    def take_block(self, most: int, into: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, list[Moment]]:
        """The next steps, up to ``most``, that have equally many rows B and train the same part. None may be put back.

        Args:
            into: memory of B rows for each of ``most`` steps by name, which gets their rows.

        Returns:
            The numbers of their rows, (n, B), and their n moments.
        """
        self.index = None
        _, first = self.coming()
        moments = [first]
        while len(moments) < min(most, self._batches.alike):
            moment = self._moment(self._number + len(moments))
            if moment.part != first.part:
                break
            moments.append(moment)
        index = self._batches.read(len(moments), into)
        self._number, self._next = self._number + len(moments), None
        self.index = index[-1]
        return index, moments

    def put_back(self, steps: Sequence[PlannedStep]) -> None:
        """Makes steps that were taken the next ones again, in this order. Their rows must not lie in shared memory."""
        self._again.extendleft(reversed(steps))
