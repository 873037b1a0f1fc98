"""The eager engine: each step traces the programs, runs backward, and calls torch optimizers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from pyro.infer import ELBO as PyroELBO

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DeclarationError
from pyro_lfm.inference.engines.adam_kernels import step_by_kernel, without_compiler
from pyro_lfm.inference.engines.engine import Engine, Setup, bound_parts, check_finite, parameters_of
from pyro_lfm.inference.engines.kept_buffers import KeptBuffers
from pyro_lfm.inference.engines.row_adam import RowAdam
from pyro_lfm.inference.svi.optimizer_states import EngineState, load_states, names_of, states_of
from pyro_lfm.inference.svi.optimizers import clip
from pyro_lfm.runtime import uncached_autocast

# Optimizers with one kernel for the whole step; the numbers are the same but for rounding.
_FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad)

# Which gradients its optimizers take.
_GRADIENTS = "gradients of the loss per row"


class Eager(Engine):
    """Runs the programs at every step.

    Every parameter has an optimizer, frozen ones too: each step trains the parameters that then require gradients.
    PerRow tables have one of their own, which updates only the rows of the batch.
    """

    def __init__(self, setup: Setup):
        self.setup = setup
        theta, phi = parameters_of(*setup.programs)
        tables = [table for program in setup.programs for table in program.tables]
        rows = set(id(table.rows) for table in tables)
        self.parts = {"model": theta, "guide": phi, "both": [*theta, *phi]}
        self.tables = tables
        self._trains = bool(self.trained("both"))
        dense = [p for p in self.parts["both"] if id(p) not in rows]
        self.optimizers: list[torch.optim.Optimizer] = []
        if dense:
            with without_compiler():
                optimizer = _fused(setup.optimizer(dense, lr=setup.learning_rate))
            self.optimizers.append(clip(optimizer, dense, setup.clip_norm))
        if tables:
            groups = [{"params": [table.rows], "lr": table.learning_rate} for table in tables]
            with without_compiler():
                self.optimizers.append(RowAdam(groups))
        self._rates = [[group["lr"] for group in o.param_groups] for o in self.optimizers]
        self._rate = 1.0
        self._sparse = [table.sparse for table in tables]
        for table in tables:
            table.sparse = True
        self.buffers = KeptBuffers(setup.programs)
        self._device = setup.model.device

    def take(
        self, rows: dict[str, torch.Tensor], index: torch.Tensor, objective: PyroELBO, rate: float, part: str
    ) -> torch.Tensor:
        return self.step_on(self.setup.batch(rows, index), objective, rate, part)

    def step_on(
        self,
        batch: Batch,
        objective: PyroELBO,
        rate: float,
        part: str,
        during: AbstractContextManager[None] | None = None,
    ) -> torch.Tensor:
        """``take`` on a batch.

        Args:
            during: a context in which the programs run.
        """
        self.buffers.keep()
        try:
            with during or nullcontext():
                loss, gradients = self.gradients(batch, objective, part)
            check_finite(loss, gradients)
        except Exception:
            self.buffers.restore()
            raise
        for parameter, gradient in gradients:
            parameter.grad = gradient
        self.set_rate(rate)
        for optimizer in self.optimizers:
            if not step_by_kernel(optimizer):
                optimizer.step()
                optimizer.zero_grad()
        for parameter, _ in gradients:
            parameter.grad = None
        return bound_parts(objective, loss, batch.total_weight)

    def gradients(
        self, batch: Batch, objective: PyroELBO, part: str
    ) -> tuple[torch.Tensor, list[tuple[torch.nn.Parameter, torch.Tensor | None]]]:
        """The loss over all rows, and for each parameter that is trained the gradient of the loss per row."""
        loss = self.loss(batch, objective)
        parameters = self.trained(part)
        # Per row, or unit of weight, so that a step does not depend on how many rows there are.
        with self.setup.stream.watched():
            gradients = gradients_of(loss / batch.total_weight, parameters)
        return loss, [(p, laid_out_as(g, p)) for p, g in zip(parameters, gradients, strict=True)]

    def loss(self, batch: Batch, objective: PyroELBO) -> torch.Tensor:
        """The loss over all rows."""
        with uncached_autocast(self._device):
            differentiable: Any = objective
            loss = differentiable.differentiable_loss(*self.setup.programs, batch)
        # A callback may freeze all parameters for a while; a fit that began without one to train is a mistake.
        if not loss.requires_grad and (not self._trains or self.trained("both")):
            raise DeclarationError("the bound depends on no trainable parameter: there is nothing to fit")
        return loss

    def trained(self, part: str) -> list[torch.nn.Parameter]:
        """The parameters that are not frozen now."""
        return [parameter for parameter in self.parts[part] if parameter.requires_grad]

    def set_rate(self, rate: float) -> None:
        """Multiplies the declared learning rates."""
        if rate == self._rate:
            return
        self._rate = rate
        for optimizer, rates in zip(self.optimizers, self._rates, strict=True):
            for group, start in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = start * rate

    def state(self) -> EngineState:
        return states_of(self.optimizers, names_of(self.setup.programs), _GRADIENTS)

    def load(self, state: EngineState) -> None:
        load_states(self.optimizers, names_of(self.setup.programs), _GRADIENTS, state)
        for optimizer in self.optimizers:
            for parameter, held in optimizer.state.items():
                held.update({n: laid_out_as(v, parameter) for n, v in held.items() if n != "step"})
        self._rate = float("nan")  # the loaded rates are those of another moment

    def close(self) -> None:
        for table, sparse in zip(self.tables, self._sparse, strict=True):
            table.sparse = sparse


def gradients_of(loss: torch.Tensor, parameters: Sequence[torch.Tensor]) -> tuple[torch.Tensor | None, ...]:
    """The gradients of a loss; None for a parameter that it does not depend on."""
    if not parameters or not loss.requires_grad:
        return (None,) * len(parameters)
    return torch.autograd.grad(loss, parameters, allow_unused=True)


def laid_out_as(value: torch.Tensor | None, parameter: torch.Tensor) -> Any:
    """A gradient, or an optimizer's state, in its parameter's memory layout, which fused kernels take for granted."""
    if not isinstance(value, torch.Tensor) or value.is_sparse or value.shape != parameter.shape:
        return value
    if value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter).copy_(value).detach()


def _fused(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer with its fused kernel, unless the user chose another."""
    for group in optimizer.param_groups:
        chosen = any(group.get(option) for option in ("fused", "foreach", "capturable", "differentiable"))
        floats = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in group["params"])
        if type(optimizer) in _FUSED and floats and not chosen and not isinstance(group["lr"], torch.Tensor):
            group["fused"] = True
    return optimizer
