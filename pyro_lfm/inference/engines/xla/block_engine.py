"""The engine of XLA: it takes many steps in one call where it can, and each other step as the compiled engine does."""

from __future__ import annotations

import time

import torch

from pyro_lfm.inference.engines.adam_kernels import FusedAdam
from pyro_lfm.inference.engines.compiled import Compiled
from pyro_lfm.inference.engines.engine import Done
from pyro_lfm.inference.engines.planned_steps import PlannedStep, PlannedSteps
from pyro_lfm.inference.engines.recorded_step import Step
from pyro_lfm.inference.engines.xla.compiled_step import XlaStep

# Seconds of one call, of the clock, or of the processor where others use it too. So progress is shown and signals end a fit
# soon. How many steps a call does changes no number.
_CALL_SECONDS = 0.25


class Xla(Compiled):
    """Takes steps in blocks, each block one call of a program of XLA.

    Where a loss or a gradient of a block is not finite, nothing of the block counts: its steps are taken again, one by one.
    """

    def advance(self, planned: PlannedSteps, most: int) -> Done:
        size, moment = planned.coming()
        if self._suspect:
            self._look_again()
        step = self.steps.get((size, moment.part, self._choice))
        native = step.native if step is not None and self._is_current(step) else None
        optimizer = self._kernel(step) if step is not None and native is not None else None
        if planned.again or optimizer is None or not isinstance(native, XlaStep):
            return super().advance(planned, most)
        return self._take_block(native, optimizer, planned, min(most, native.suggested(_CALL_SECONDS)))

    def _apply(
        self, step: Step, inputs: list[torch.Tensor], index: torch.Tensor, rate: float
    ) -> torch.Tensor:
        # By the same program as a block, so that no rounding depends on how many steps a call does.
        optimizer = self._kernel(step)
        if isinstance(step.native, XlaStep) and optimizer is not None:
            step.native.put(inputs)
            if (parts := self._taken(step.native, optimizer, [rate])) is not None:
                return parts[0]
        return super()._apply(step, inputs, index, rate)

    def _taken(self, native: XlaStep, optimizer: FusedAdam, factors: list[float]) -> torch.Tensor | None:
        """``XlaStep.take``, which leaves the random stream alone too where it gives None."""
        self.eager.set_rate(1.0)  # the factors are those of the declared rates
        random = torch.get_rng_state()
        if (parts := native.take(optimizer, factors)) is None:
            torch.set_rng_state(random)
        return parts

    def _take_block(self, native: XlaStep, optimizer: FusedAdam, planned: PlannedSteps, most: int) -> Done:
        """Up to ``most`` steps of one size and part."""
        began, began_work = time.perf_counter(), time.process_time()
        index, moments = planned.take_block(most, native.rows)
        native.put_numbers(index, [self._weights_of(moment.objective) for moment in moments])
        parts = self._taken(native, optimizer, [moment.rate for moment in moments])
        if parts is None:
            again = zip(native.copies(), index, moments, strict=False)
            planned.put_back([PlannedStep(*step) for step in again])
            return self.advance(planned, most)
        # Under load few steps fit into a moment of the clock, and the copies of each call would outweigh them.
        took = min(time.perf_counter() - began, time.process_time() - began_work)
        native.seconds = max(took, 1e-6) / len(moments)  # some clocks of processors are coarse
        self.number += len(moments)
        return Done([*index], parts)
