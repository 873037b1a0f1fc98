"""The plain step: trace, backward, a torch optimizer; tables of rows are updated row by row."""

from __future__ import annotations

from typing import Any

import torch

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DeclarationError
from pyro_lfm.inference.engines.engine import Engine, Setup, check, told, trainable
from pyro_lfm.inference.optimizer_states import names_of, states, take_up
from pyro_lfm.inference.row_adam import RowAdam
from pyro_lfm.runtime import uncached_autocast

# Those that have one kernel for the whole step; the numbers are the same but for rounding.
_FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad)

# What its optimizers see.
_GRADIENTS = "gradients of the loss per row"


class Eager(Engine):
    """Runs the programs at every step."""

    def __init__(self, setup: Setup):
        self.setup = setup
        theta, phi = trainable(*setup.programs)
        tables = [table for program in setup.programs for table in program.tables if table.rows.requires_grad]
        rows = set(id(table.rows) for table in tables)
        self.parts = {"model": theta, "guide": phi, "both": [*theta, *phi]}
        self.tables = tables
        dense = [p for p in self.parts["both"] if id(p) not in rows]
        self.optimizers: list[torch.optim.Optimizer] = []
        if dense:
            self.optimizers.append(_fused(setup.optimizer(dense, lr=setup.learning_rate)))
        if tables:
            groups = [{"params": [table.rows], "lr": table.learning_rate} for table in tables]
            self.optimizers.append(RowAdam(groups))
        self._rates = [[group["lr"] for group in o.param_groups] for o in self.optimizers]
        self._rate = 1.0
        self._sparse = [table.sparse for table in tables]
        for table in tables:
            table.sparse = True

    def step(
        self, rows: dict[str, torch.Tensor], index: torch.Tensor, objective: Any, rate: float, part: str
    ) -> torch.Tensor:
        return self.step_on(self.setup.batch(rows, index), objective, rate, part)

    def step_on(self, batch: Batch, objective: Any, rate: float, part: str) -> torch.Tensor:
        """``step`` on a batch that is made already."""
        parameters = self.parts[part]
        loss, gradients = self.gradients(batch, objective, parameters)
        check(loss, zip(parameters, gradients, strict=True))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        self.set_rate(rate)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return told(objective, loss, batch.total)

    def gradients(
        self, batch: Batch, objective: Any, parameters: list[Any]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor | None, ...]]:
        """The loss over all rows, and the gradients of the loss per row."""
        loss = self.loss(self.setup, batch, objective)
        # Per row, so that a step does not depend on how many rows there are.
        with self.setup.stream.watched():
            found = torch.autograd.grad(loss / batch.total, parameters, allow_unused=True)
        return loss, tuple(laid_out_as(g, p) for g, p in zip(found, parameters, strict=True))

    @staticmethod
    def loss(setup: Setup, batch: Batch, objective: Any) -> torch.Tensor:
        """The loss over all rows."""
        with uncached_autocast(setup.model.device):
            loss = objective.differentiable_loss(*setup.programs, batch)
        if not loss.requires_grad:
            raise DeclarationError("the bound depends on no trainable parameter: there is nothing to fit")
        return loss

    def set_rate(self, rate: float) -> None:
        """Multiplies the learning rates that the optimizers were made with."""
        if rate == self._rate:
            return
        self._rate = rate
        for optimizer, rates in zip(self.optimizers, self._rates, strict=True):
            for group, start in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = start * rate

    def state(self) -> dict[str, Any]:
        return states(self.optimizers, names_of(self.setup.programs), _GRADIENTS)

    def load(self, state: dict[str, Any]) -> None:
        take_up(self.optimizers, names_of(self.setup.programs), _GRADIENTS, state)
        for optimizer in self.optimizers:
            for parameter, held in optimizer.state.items():
                held.update({n: laid_out_as(v, parameter) for n, v in held.items() if n != "step"})
        self._rate = float("nan")  # theirs is that of the moment at which they were saved

    def close(self) -> None:
        for table, sparse in zip(self.tables, self._sparse, strict=True):
            table.sparse = sparse


def laid_out_as(value: Any, parameter: torch.Tensor) -> Any:
    """A gradient, or a state, in its parameter's memory layout: fused kernels take that for granted."""
    if not isinstance(value, torch.Tensor) or value.is_sparse or value.shape != parameter.shape:
        return value
    if value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter).copy_(value).detach()


def _fused(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer with its fused kernel, unless its maker chose another."""
    for group in optimizer.param_groups:
        chosen = any(group.get(option) for option in ("fused", "foreach", "capturable", "differentiable"))
        floats = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in group["params"])
        if type(optimizer) in _FUSED and floats and not chosen and not isinstance(group["lr"], torch.Tensor):
            group["fused"] = True
    return optimizer
