"""Programs by hand keep their parameters to themselves: PyroModules and pyro.param statements.

Pyro registers both in one process-wide store, under names that two programs may share. Here they stay in the
program: a ``PyroModule`` runs with module-local parameters, and a ``pyro.param`` statement is answered from the
program's own dictionary. Every private name of Pyro that the library leans on stands in this file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pyro
import torch
from pyro.infer.autoguide import AutoGuide
from pyro.nn.module import PyroModule, _Context
from pyro.poutine.messenger import Messenger

if TYPE_CHECKING:
    from pyro_lfm.programs.program import HandWritten

# A statement of a program as Pyro's ``Message`` has it: its distribution under "fn", its value under "value", ...
Site = dict[str, Any]


class _Private(_Context):
    """The context of a call of PyroModules that leaves the store alone, where Pyro's own swaps all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.param_state: Any = {"params": {}, "constraints": {}}

    def __enter__(self) -> None:
        self.active += 1
        self.used = True

    def __exit__(self, *error: object) -> None:
        self.active -= 1
        if not self.active:
            self.cache.clear()


def adopt(program: torch.nn.Module) -> _Context:
    """Names the PyroModules in a program after their place in it; returns the context in which they are called.

    So their PyroSamples have unique names, and are statements also where the program is no PyroModule itself.
    """
    modules = [(name, module) for name, module in program.named_modules() if isinstance(module, PyroModule)]
    contexts = {id(module._pyro_context): module._pyro_context for _, module in modules}
    if len(contexts) == 1 and isinstance(context := next(iter(contexts.values())), _Private):
        return context
    context = _Private()
    # An automatic guide calls its parameters as the latents that it draws: there the place needs a name.
    automatic = isinstance(getattr(program, "program", None), AutoGuide)
    for name, module in modules:
        place = name.removeprefix("program").removeprefix(".")
        module._pyro_name = f"automatic.{place}".removesuffix(".") if automatic else place
        module._pyro_context = context
    return context


class LocalParams(Messenger):
    """Answers ``pyro.param`` from the program's own parameters, and hides it from all other handlers."""

    def __init__(self, program: HandWritten):
        super().__init__()
        self.program = program

    def _pyro_param(self, msg: Site) -> None:
        msg["stop"] = True
        if msg["done"] or msg["fn"] != pyro.get_param_store().get_param:
            return  # a PyroModule's statement, which brings its value along
        msg["value"], msg["done"] = self._value(msg), True

    def _value(self, msg: Site) -> torch.Tensor:
        params, name = self.program.local_params, msg["name"]
        key = name.replace(".", "$")
        # A tensor, a function that makes one, or None.
        init: Any = msg["args"][1] if len(msg["args"]) > 1 else None
        if key not in params and (name in self.program.passed or isinstance(init, torch.nn.Parameter)):
            # pyro.module, or a statement about a parameter that some module holds.
            self.program.passed.add(name)
            if isinstance(init, torch.nn.Parameter) and all(init is not p for p in self.program.parameters()):
                params[key] = init  # held by nobody here, as by a function's closure
            return cast(torch.Tensor, init)
        constraint = msg["kwargs"].get("constraint") or torch.distributions.constraints.real
        transform = torch.distributions.transform_to(constraint)
        if key not in params:
            start = init() if callable(init) else init
            if start is None:
                raise KeyError(f"pyro.param {name!r} has no initial value")
            with torch.no_grad():
                params[key] = torch.nn.Parameter(transform.inv(start.detach()).clone())
        value: torch.Tensor = transform(params[key])
        return value
