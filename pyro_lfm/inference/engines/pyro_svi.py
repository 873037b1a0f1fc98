"""The engine "pyro": ``pyro.infer.SVI`` itself, through Pyro's process-wide parameter store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro.infer import ELBO as PyroELBO
from pyro.ops.provenance import detach_provenance

from pyro_lfm.errors import DeclarationError
from pyro_lfm.inference.engines.engine import Engine, Setup, bound_parts, check_finite
from pyro_lfm.inference.engines.kept_buffers import KeptBuffers
from pyro_lfm.inference.svi.optimizer_states import EngineState, load_states, names_of, states_of
from pyro_lfm.inference.svi.optimizers import clip_gradients
from pyro_lfm.programs.program import Program
from pyro_lfm.runtime import isolated

# Which gradients its optimizers take.
_GRADIENTS = "gradients of the loss of all rows"


class _Checked(pyro.optim.PyroOptim):
    """Pyro's optimizers, one per parameter, which take no step where loss or gradients are not finite.

    Gradients are first clipped by their common norm, as Pyro's own ``clip_args`` clip the gradient of each parameter by
    itself.

    Args:
        setup: with the norm of the gradients of the loss per row; Pyro's are those of the loss of all rows.
        parameters: those of the programs, in an order that does not change from run to run.
        clipped: those of them that are clipped.
    """

    def __init__(
        self,
        setup: Setup,
        parameters: Sequence[torch.nn.Parameter],
        clipped: Sequence[torch.nn.Parameter],
    ):
        super().__init__(setup.optimizer, {"lr": setup.learning_rate})
        self.parameters, self.clipped = parameters, clipped
        self.norm = None if setup.clip_norm is None else setup.clip_norm * setup.total_weight
        self.loss = torch.zeros(())

    def __call__(self, params: Iterable[torch.Tensor], *args: Any, **kwargs: Any) -> None:
        check_finite(self.loss, [(p, p.grad) for p in self.parameters])
        if self.norm is not None:
            clip_gradients(self.clipped, self.norm)
        super().__call__([*params], *args, **kwargs)


class Pyro(Engine):
    """Hands every step to Pyro."""

    def __init__(self, setup: Setup):
        self.setup = setup
        self.parameters = {
            f"{kind}.{n}": p for kind, part in self._parts() for n, p in part.named_parameters()
        }
        self._rates = {id(p): setup.learning_rate for p in self.parameters.values()}
        tables = {id(t.rows): t.learning_rate for _, part in self._parts() for t in part.tables}
        self._rates.update(tables)
        dense = [p for p in self.parameters.values() if id(p) not in tables]
        self.optimizer = _Checked(setup, [*self.parameters.values()], dense)
        self.buffers = KeptBuffers(setup.programs)
        self._before = set(pyro.get_param_store().keys())

    def _parts(self) -> tuple[tuple[str, Program], tuple[str, Program]]:
        return ("model", self.setup.model), ("guide", self.setup.guide)

    @contextmanager
    def session(self) -> Iterator[None]:
        # Parameters go through the store; the stream and the lock are the engine's own all the same.
        with isolated(self.setup.stream, self.setup.model.device, store=True):
            yield

    def take(
        self, rows: dict[str, torch.Tensor], index: torch.Tensor, objective: PyroELBO, rate: float, part: str
    ) -> torch.Tensor:
        if part != "both":
            raise DeclarationError("alternate= needs another engine: pyro.infer.SVI steps θ and φ together")
        svi = pyro.infer.SVI(*self.setup.programs, self.optimizer, objective)
        inner = self.optimizer.optim_objs
        for parameter in self.parameters.values():
            if parameter.requires_grad and parameter not in inner:
                self._make(parameter)  # now, so that the first step has its rate too
            for group in inner[parameter].param_groups if parameter in inner else ():
                group["lr"] = self._rates[id(parameter)] * rate
        svi.loss_and_grads = self._remembering(svi.loss_and_grads)
        self.buffers.keep()
        others = self._others()
        try:
            loss = torch.as_tensor(svi.step(self.setup.batch(rows, index)))
        except Exception:
            self._put_back(others)
            raise
        return bound_parts(objective, loss, self.setup.total_weight)

    def _remembering(self, loss_and_grads: Callable[..., Any]) -> Callable[..., Any]:
        """The function that gives the loss, which the optimizer looks at before it takes a step."""

        def remembering(*arguments: Any) -> Any:
            loss = loss_and_grads(*arguments)
            self.optimizer.loss = torch.as_tensor(loss).detach().sum()
            return loss

        return remembering

    def _put_back(self, others: dict[str, torch.Tensor]) -> None:
        """Drops the gradients of a step that is not taken, and puts back all else that it changed."""
        self.buffers.restore()
        pyro.infer.util.zero_grads(self.parameters.values())
        store = pyro.get_param_store()
        for name in self._others():
            if name in others:
                store[name] = others[name]
            else:
                del store[name]

    def state(self) -> EngineState:
        # By the names in the programs, as those in the store belong to this instance alone.
        inner = self.optimizer.optim_objs
        optimizers = [inner[p] for p in self.parameters.values() if p in inner]
        return {**states_of(optimizers, names_of(self.setup.programs), _GRADIENTS), "store": self._others()}

    def _others(self) -> dict[str, torch.Tensor]:
        """The entries of Pyro's store that the objective made, such as averages for baselines."""
        store = pyro.get_param_store()
        owned = {store.param_name(parameter) for parameter in self.parameters.values()}
        return {
            name: detach_provenance(store[name]).detach() for name in set(store.keys()) - self._before - owned
        }

    def load(self, state: EngineState) -> None:
        # Frozen parameters too, as they may be released again.
        known = {name for entry in state["optimizers"] for name in entry["names"]}
        for name, parameter in self.parameters.items():
            if parameter.requires_grad or name in known:
                self._make(parameter)
        for name, value in state.get("store", {}).items():
            pyro.get_param_store()[name] = value.to(self.setup.model.device)
        load_states([*self.optimizer.optim_objs.values()], names_of(self.setup.programs), _GRADIENTS, state)

    def _make(self, parameter: torch.nn.Parameter) -> None:
        """Makes the optimizer of a parameter, as PyroOptim does on its first gradient."""
        optimizer = self.setup.optimizer([parameter], lr=self._rates[id(parameter)])
        self.optimizer.optim_objs[parameter], self.optimizer.grad_clip[parameter] = optimizer, None

    def close(self) -> None:
        store = pyro.get_param_store()
        for name in set(store.keys()) - self._before:
            del store[name]
