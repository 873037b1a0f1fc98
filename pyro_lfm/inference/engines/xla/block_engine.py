"""The engine of XLA: it takes many steps in one call where it can, and each other step as the compiled engine does."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from pyro_lfm.inference.engines.adam_kernels import FusedAdam
from pyro_lfm.inference.engines.compiled import Compiled
from pyro_lfm.inference.engines.engine import Done
from pyro_lfm.inference.engines.native_progress import Key
from pyro_lfm.inference.engines.planned_steps import PlannedStep, PlannedSteps
from pyro_lfm.inference.engines.recorded_step import Step
from pyro_lfm.inference.engines.xla.compiled_step import XlaStep

# Seconds of one call, so that progress is shown and signals end a fit soon. How many steps a call does changes no number.
_CALL_SECONDS = 0.25


class Xla(Compiled):
    """Takes steps in blocks, each block one call of a program of XLA.

    Where a loss or a gradient of a block is not finite, nothing of the block counts: its steps are taken again, one by one.
    """

    by_xla = True
    # How many of the next steps are taken one by one.
    _careful = 0

    def advance(self, planned: PlannedSteps, most: int) -> Done:
        first = planned.next_one()
        assert first is not None
        if self._suspect:
            self._look_again()
        key = self._key(first)
        step = self.steps.get(key)
        native = step.native if step is not None and self._is_current(step) else None
        optimizer = self._kernel(step) if step is not None and native is not None else None
        if self._careful or optimizer is None or not isinstance(native, XlaStep):
            self._careful = max(0, self._careful - 1)
            return super().advance(planned, most)
        return self._take_block(native, optimizer, key, planned, min(most, native.suggested(_CALL_SECONDS)))

    def _apply(
        self, step: Step, inputs: list[torch.Tensor], index: torch.Tensor, rate: float
    ) -> torch.Tensor:
        # By the same program as a block, so that no rounding depends on how many steps a call does.
        optimizer = self._kernel(step)
        if isinstance(step.native, XlaStep) and optimizer is not None:
            step.native.put(0, inputs)
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

    def _take_block(
        self, native: XlaStep, optimizer: FusedAdam, key: Key, planned: PlannedSteps, most: int
    ) -> Done:
        """Up to ``most`` steps of one key."""
        taken: list[PlannedStep] = []
        while len(taken) < most and (following := planned.next_one()) and self._key(following) == key:
            weights = self._weights_of(following.objective)
            native.put(len(taken), [*following.rows.values(), following.index, weights])
            taken.append(planned.take())
        began = time.perf_counter()
        parts = self._taken(native, optimizer, [step.rate for step in taken])
        if parts is None:
            planned.put_back([replace(step, rows=native.rows(k)) for k, step in enumerate(taken)])
            self._careful = len(taken)
            return self.advance(planned, most)
        native.seconds = (time.perf_counter() - began) / len(taken)
        self.number += len(taken)
        return Done([step.index for step in taken], parts)
