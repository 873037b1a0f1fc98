"""The compiled engine: it records the operations of one step, and does later steps by native code.

The native code must give what the programs give on the same noise, when it is made and at intervals after that. Where it
does not, or where a program cannot be recorded, training goes on in eager and a message says why.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from pyro.infer import ELBO as PyroELBO

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import warn
from pyro_lfm.inference.engines import tracing
from pyro_lfm.inference.engines.adam_kernels import FusedAdam, fused_adam
from pyro_lfm.inference.engines.eager import Eager
from pyro_lfm.inference.engines.engine import Engine, Setup, fault_of
from pyro_lfm.inference.engines.native_progress import Key, rehearse, restore_counts, states_of_steps
from pyro_lfm.inference.engines.recorded_step import Compiler, Step, inductor
from pyro_lfm.inference.svi.failure import NotFinite
from pyro_lfm.inference.svi.optimizer_states import EngineState, StepState
from pyro_lfm.objectives import Objective
from pyro_lfm.warning_kinds import CompilationWarning

LOG = logging.getLogger("pyro_lfm")

# Steps between two comparisons with the programs, each of which costs about as much as ten compiled steps.
_COMPARE_EVERY = 1000
# Seconds between two checks that nobody has changed the values that the programs read.
_LOOK_SECONDS = 0.1
# Channels from which a convolution is faster with channels last.
_WIDE = 32
# How many sets of trained parameters have native code of their own.
_CHOICES = 4


class Compiled(Engine):
    """Does steps by native code where it gives the same numbers, and in eager elsewhere.

    Args:
        setup: the programs and the optimizer.
        sizes: the batch sizes that are compiled, one function each; others are done in eager.
        after: the number of first steps that are eager, so that the first epoch does not wait for the compiler.
        insist: whether a program that cannot be compiled gets a warning, or only a line in the log.
        compilers: by name, torch's alone by default. Each is tried where those before it cannot make native code of a step.
    """

    def __init__(
        self,
        setup: Setup,
        sizes: frozenset[int],
        after: int = 0,
        insist: bool = True,
        compilers: Mapping[str, Compiler] | None = None,
    ):
        self.compilers = {"torch": inductor} if compilers is None else compilers
        self.setup, self.sizes, self.after, self.insist = setup, sizes, after, insist
        _channels_last(setup)
        self.eager = Eager(setup)
        self.weights = torch.zeros(1, dtype=setup.model.dtype, device=setup.model.device)
        self._weights: list[Any] = []
        # The objective that has these weights.
        self._weighted: PyroELBO | None = None
        self.steps: dict[Key, Step | None] = {}
        # What an earlier run of the fit has done of steps that this one has not needed so far.
        self._waiting: dict[Key, StepState] = {}
        # The sets of trained parameters so far, numbered, and the present one.
        self._choices: dict[tuple[bool, ...], int] = {}
        self._choice = self._number_of_choice()
        self.kernels: dict[tuple[int, ...], FusedAdam | None] = {}
        self.number = 0
        self._suspect, self._looked = False, time.monotonic()
        # Whether Python waits for each step, to see whether it is finite. A GPU that steps by a kernel skips by itself.
        self._waits = setup.model.device.type == "cpu"

    @contextmanager
    def session(self) -> Iterator[None]:
        with super().session():
            if self._suspect or time.monotonic() - self._looked > _LOOK_SECONDS:
                self._look_again()
            yield

    def take(
        self, rows: dict[str, torch.Tensor], index: torch.Tensor, objective: PyroELBO, rate: float, part: str
    ) -> torch.Tensor:
        if self._suspect:
            self._look_again()
        self.number += 1
        key: Key = len(index), part, self._choice
        if self.number <= self.after or key[0] not in self.sizes or self.steps.get(key, True) is None:
            return self.eager.take(rows, index, objective, rate, part)
        self._weights_of(objective)
        step = self._step(key, rows, objective, part)
        earlier = self._waiting.pop(key, None)
        if step is not None and earlier is not None:
            run = partial(self._trial, rows, index, objective, part)
            rehearse(step, earlier, run, [*rows.values(), index])
        if step is None or not step.watched.settled:
            return self._watch(key, step, self.setup.batch(rows, index), objective, rate, part)
        gathered = [table.rows.detach().index_select(0, index) for table in step.tables]
        inputs = [*rows.values(), index, self.weights, *gathered]
        if not self._ready(key, step, inputs, objective):
            return self.eager.take(rows, index, objective, rate, part)
        if earlier is not None and earlier["recorded"]:
            restore_counts(step, earlier)
        return self._apply(step, inputs, index, rate)

    def _apply(
        self, step: Step, inputs: list[torch.Tensor], index: torch.Tensor, rate: float
    ) -> torch.Tensor:
        """One step by native code; see ``take``."""
        loss, finite, parts, *gradients = step(inputs)
        kernel = self._kernel(step)
        if (self._waits or kernel is None) and not step.all_finite(finite, gradients):
            raise self._fault(step, inputs, loss, gradients)
        self.eager.set_rate(rate)
        if kernel is None:
            self._update(step, index, gradients)
        else:
            kernel(gradients, None if self._waits else 1 - parts[-1].float())
        return parts

    def _weights_of(self, objective: PyroELBO) -> torch.Tensor:
        """The weights of an objective's terms as a tensor."""
        if objective is self._weighted:
            return self.weights
        self._weighted = objective
        weights: list[Any] = [*objective.weights.values()] if isinstance(objective, Objective) else []
        if weights != self._weights:
            self._weights = weights
            self.weights = self.weights.new_tensor(weights)
        return self.weights

    def _is_current(self, step: Step) -> bool:
        """Whether the native code of a step is there, and need not be compared with the programs now."""
        return step.recorded and self.number - step.compared_at < _COMPARE_EVERY

    def suspect(self) -> None:
        self._suspect = True

    def _look_again(self) -> None:
        """Checks what the programs read, which parameters are trained, and where they lie in memory."""
        self._suspect, self._looked = False, time.monotonic()
        self.kernels.clear()
        self._choice = self._number_of_choice()
        for (_, _, choice), step in self.steps.items():
            if step is None or choice != self._choice or not step.watched.settled:
                continue
            if not step.suspect() and step.recorded:
                step.refresh()

    def _number_of_choice(self) -> int:
        trained = tuple(parameter.requires_grad for parameter in self.eager.parts["both"])
        return self._choices.setdefault(trained, len(self._choices))

    def _step(self, key: Key, rows: dict[str, torch.Tensor], objective: PyroELBO, part: str) -> Step | None:
        """The step of a key; None where there are too many."""
        if key not in self.steps:
            if sum(other[:2] == key[:2] for other in self.steps) >= _CHOICES:
                self._give_up(key, "requires_grad of its parameters changes again and again")
                return None
            self.steps[key] = Step(self.eager, [*rows], objective, part, [*self.compilers.values()])
        return self.steps[key]

    def _trial(
        self, rows: dict[str, torch.Tensor], index: torch.Tensor, objective: PyroELBO, part: str
    ) -> torch.Tensor:
        """The loss of a step that is not made, by the programs."""
        return self.eager.gradients(self.setup.batch(rows, index), objective, part)[0]

    def _watch(
        self, key: Key, step: Step | None, batch: Batch, objective: PyroELBO, rate: float, part: str
    ) -> torch.Tensor:
        """A step in eager, in which the values that the programs read are watched."""
        if step is None:
            return self.eager.step_on(batch, objective, rate, part)
        parts = self.eager.step_on(batch, objective, rate, part, step.watched.run(objective))
        if step.watched.reason is not None:
            self._give_up(key, step.watched.reason)
        return parts

    def _ready(self, key: Key, step: Step, inputs: list[torch.Tensor], objective: PyroELBO) -> bool:
        """Whether native code can do this step: builds it, and compares it when that is due."""
        if self._is_current(step):
            return True
        new, step.objective = not step.recorded, objective
        try:
            if new:
                step.build(inputs)
            if reason := step.difference(inputs):
                raise tracing.NotRecordable(reason)
        except tracing.NotRecordable as error:
            self._give_up(key, str(error))
            return False
        # Twice at the beginning, then at intervals.
        step.compared_at = self.number - (_COMPARE_EVERY - 1 if new else 0)
        step.recorded = True
        return True

    def _give_up(self, key: Key, reason: str) -> None:
        self.steps[key] = None
        self._say(f"the step cannot be compiled and is done in eager: {reason}")

    def _say(self, message: str) -> None:
        LOG.info(message)
        if self.insist:
            warn(message, CompilationWarning)
            self.insist = False

    def _update(self, step: Step, index: torch.Tensor, gradients: list[torch.Tensor]) -> None:
        """The optimizers' step."""
        count = len(step.parameters)
        for k, gradient in zip(step.used, gradients, strict=True):
            if k < count:
                step.parameters[k].grad = gradient
            else:
                rows = step.learned[k - count].rows
                rows.grad = torch.sparse_coo_tensor(index[None], gradient, rows.shape, check_invariants=False)
        for optimizer in self.eager.optimizers:
            optimizer.step()
            optimizer.zero_grad()

    def _kernel(self, step: Step) -> FusedAdam | None:
        """The optimizer's kernel for the parameters of a step, where there can be one."""
        if not (moved := step.moved):
            return None
        # A kernel counts its own parameters' steps: no parameter may belong to two.
        if moved not in self.kernels and not any(set(moved) & set(others) for others in self.kernels):
            parameters = [step.parameters[k] for k in step.used]
            kernel = fused_adam(self.eager.optimizers[0], parameters)
            # An optimizer that has done no step yet may have one later.
            if kernel is None and not all(map(self.eager.optimizers[0].state.get, parameters)):
                return None
            self.kernels[moved] = kernel
        return self.kernels.get(moved)

    def _fault(
        self, step: Step, inputs: list[torch.Tensor], loss: torch.Tensor, gradients: Sequence[torch.Tensor]
    ) -> NotFinite:
        """Why native code is not finite. The programs, run for trial, may refuse the batch in words of their own."""
        with step.watched.trial(inputs):
            step.python(*inputs)
        trained = [*step.parameters, *(table.rows for table in step.learned)]
        return fault_of(loss, zip([trained[k] for k in step.used], gradients, strict=True))

    def state(self) -> EngineState:
        if self._suspect:
            self._look_again()
        return {
            **self.eager.state(),
            "native": {
                "compilers": [*self.compilers],
                "sizes": sorted(self.sizes),
                "after": self.after,
                "number": self.number,
                "choices": [*self._choices],
                "steps": states_of_steps(self.steps, self._waiting),
            },
        }

    def load(self, state: EngineState) -> None:
        self.eager.load(state)
        if (native := state.get("native")) is None:
            return
        self.number = native["number"]
        self._choices = {choice: k for k, choice in enumerate(native["choices"])}
        self._choice = self._number_of_choice()
        for saved in native["steps"]:
            if saved["given_up"]:
                self.steps[saved["key"]] = None
            else:
                self._waiting[saved["key"]] = saved

    def close(self) -> None:
        self.eager.close()


def _channels_last(setup: Setup) -> None:
    """Lays out the weights of wide convolutions with channels last, for which native code is faster."""
    modules: list[Any] = [module for program in setup.programs for module in program.modules()]
    for module in modules:
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            if max(module.in_channels, module.out_channels) >= _WIDE:
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
