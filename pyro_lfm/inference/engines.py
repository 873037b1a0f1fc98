"""Engines: one optimisation step on one batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pyro
import torch

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DeclarationError
from pyro_lfm.inference.failure import NotFinite
from pyro_lfm.inference.row_adam import RowAdam
from pyro_lfm.objectives import Objective
from pyro_lfm.programs import Program, evaluating
from pyro_lfm.runtime import Stream, isolated


@dataclass(frozen=True)
class Result:
    """What a step reports, in nats per row; the parts are NaN where the objective does not tell them."""

    bound: float
    reconstruction: float
    kl: float

    @classmethod
    def of(cls, objective: Any, loss: float, total: int) -> Result:
        last = getattr(objective, "last", None)
        if last is None:
            return cls(-loss / total, float("nan"), float("nan"))
        kl = float(torch.stack([*last.kl.values()]).sum(0).mean())
        return cls(float(last.per_row.mean()), float(last.reconstruction.mean()), kl)


class Engine(ABC):
    """Holds model, guide and optimizer and does one step at a time, in a random stream of its own."""

    model: Program
    guide: Program
    stream: Stream

    @abstractmethod
    def step(self, batch: Batch, objective: Any, rate: float, part: str) -> Result:
        """One step; ``rate`` multiplies every learning rate, ``part`` is "both", "model" or "guide"."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """The optimizer's state, to be saved."""

    @abstractmethod
    def load(self, state: dict[str, Any]) -> None:
        """Takes up a state that was saved."""

    @abstractmethod
    def close(self) -> None:
        """Called once at the end, whatever happened: leaves nothing behind."""


def trainable(model: Program, guide: Program) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """θ and φ; what both programs hold counts as θ."""
    theta = [p for p in model.parameters() if p.requires_grad]
    held = set(map(id, theta))
    return theta, [p for p in guide.parameters() if p.requires_grad and id(p) not in held]


def check(loss: torch.Tensor, values: Iterable[tuple[torch.nn.Parameter, torch.Tensor | None]]) -> None:
    """Stops at a loss, or a parameter's gradient, that is not finite."""
    pairs = [(p, v.detach()._values() if v.is_sparse else v.detach()) for p, v in values if v is not None]
    # One number to look at: it is finite exactly when everything is.
    if not bool(torch.stack([loss.detach(), *(value.sum() for _, value in pairs)]).sum().isfinite()):
        for parameter, value in pairs:
            if not bool(value.isfinite().all()):
                raise NotFinite(parameter)
        if not bool(loss.isfinite()):
            raise NotFinite(None)


class Eager(Engine):
    """The plain step: trace, backward, a torch optimizer; tables of rows are updated row by row."""

    def __init__(
        self,
        model: Program,
        guide: Program,
        optimizer: Callable[..., torch.optim.Optimizer],
        learning_rate: float,
        stream: Stream,
    ):
        self.model, self.guide, self.stream = model, guide, stream
        theta, phi = trainable(model, guide)
        tables = [table for program in (model, guide) for table in program.tables if table.rows.requires_grad]
        rows = set(id(table.rows) for table in tables)
        self.parts = {"model": theta, "guide": phi, "both": [*theta, *phi]}
        self.tables = tables
        dense = [p for p in self.parts["both"] if id(p) not in rows]
        self.optimizers: list[torch.optim.Optimizer] = [optimizer(dense, lr=learning_rate)] if dense else []
        if tables:
            groups = [{"params": [table.rows], "lr": table.learning_rate} for table in tables]
            self.optimizers.append(RowAdam(groups))
        self.rates = [[group["lr"] for group in o.param_groups] for o in self.optimizers]
        self._sparse = [table.sparse for table in tables]
        for table in tables:
            table.sparse = True

    def step(self, batch: Batch, objective: Any, rate: float, part: str) -> Result:
        device = self.model.device
        with isolated(self.stream, device):
            loss = objective.differentiable_loss(self.model, self.guide, batch)
            parameters = self.parts[part]
            if not loss.requires_grad:
                raise DeclarationError("the bound depends on no trainable parameter: there is nothing to fit")
            # Per row, so that a step does not depend on how many rows there are.
            gradients = torch.autograd.grad(loss / batch.total, parameters, allow_unused=True)
        check(loss, zip(parameters, gradients, strict=True))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        for optimizer, rates in zip(self.optimizers, self.rates, strict=True):
            for group, start in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = start * rate
            optimizer.step()
            optimizer.zero_grad()
        return Result.of(objective, loss.item(), batch.total)

    def state(self) -> dict[str, Any]:
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load(self, state: dict[str, Any]) -> None:
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def close(self) -> None:
        for table, sparse in zip(self.tables, self._sparse, strict=True):
            table.sparse = sparse


class Pyro(Engine):
    """``pyro.infer.SVI``, literally, through the process-wide parameter store."""

    def __init__(
        self,
        model: Program,
        guide: Program,
        optimizer: Callable[..., torch.optim.Optimizer],
        learning_rate: float,
        stream: Stream,
    ):
        self.model, self.guide, self.stream = model, guide, stream
        self.parameters = {
            f"{kind}.{n}": p for kind, part in self._parts() for n, p in part.named_parameters()
        }
        self._rates = {id(p): learning_rate for p in self.parameters.values()}
        self._rates.update({id(t.rows): t.learning_rate for _, part in self._parts() for t in part.tables})
        self.optimizer = pyro.optim.PyroOptim(optimizer, {"lr": learning_rate})
        self._make = optimizer
        self._before = set(pyro.get_param_store().keys())

    def _parts(self) -> tuple[tuple[str, Program], tuple[str, Program]]:
        return ("model", self.model), ("guide", self.guide)

    def step(self, batch: Batch, objective: Any, rate: float, part: str) -> Result:
        if part != "both":
            raise DeclarationError('alternate= needs engine="eager": pyro.infer.SVI steps θ and φ together')
        svi = pyro.infer.SVI(self.model, self.guide, self.optimizer, objective)
        inner = self.optimizer.optim_objs
        for parameter in self.parameters.values():
            if parameter.requires_grad and parameter not in inner:
                # Made here as PyroOptim would on the first gradient, so that the first step has its rate too.
                inner[parameter] = self._make([parameter], lr=self._rates[id(parameter)])
                self.optimizer.grad_clip[parameter] = None
            for group in inner[parameter].param_groups if parameter in inner else ():
                group["lr"] = self._rates[id(parameter)] * rate
        # Not isolated(): the parameters are to be in the store. The stream and the lock still are its own.
        with isolated(self.stream, self.model.device, store=True):
            loss = svi.step(batch)
        theta, phi = trainable(self.model, self.guide)
        check(torch.as_tensor(loss), zip([*theta, *phi], [*theta, *phi], strict=True))
        return Result.of(objective, float(loss), batch.total)

    def state(self) -> dict[str, Any]:
        # By the names in the programs: those in the store belong to this instance alone.
        inner = self.optimizer.optim_objs
        return {"optimizers": {n: inner[p].state_dict() for n, p in self.parameters.items() if p in inner}}

    def load(self, state: dict[str, Any]) -> None:
        for name, saved in state["optimizers"].items():
            parameter = self.parameters[name]
            made = self._make([parameter], lr=self._rates[id(parameter)])
            made.load_state_dict(saved)
            self.optimizer.optim_objs[parameter], self.optimizer.grad_clip[parameter] = made, None

    def close(self) -> None:
        store = pyro.get_param_store()
        for name in set(store.keys()) - self._before:
            del store[name]


ENGINES: dict[str, Callable[..., Engine]] = {"eager": Eager, "pyro": Pyro}


def evaluate(model: Program, guide: Program, objective: Any, batch: Batch, stream: Stream) -> Result:
    """The bound on a batch without a step, in evaluation mode."""
    with evaluating(model, guide), isolated(stream, model.device), torch.no_grad():
        if isinstance(objective, Objective):
            objective = objective.at(1.0)
        loss = objective.loss(model, guide, batch)
    return Result.of(objective, float(loss), batch.total)
