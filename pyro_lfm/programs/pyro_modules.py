"""Parameters of hand-written programs, PyroModules and pyro.param statements, kept inside the program.

Pyro registers both in one global store, under names that two programs may share. Here a ``PyroModule`` runs with
module-local parameters, and a ``pyro.param`` statement reads the program's own dictionary. All private names of Pyro that
the library uses are in this file.
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
    """A context of calls of PyroModules that leaves the global store alone. Pyro's own context replaces the whole store."""

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
    """Names the PyroModules of a program by their paths, and returns the context in which to call them.

    So their PyroSamples have unique names, and are sample statements even if the program itself is no PyroModule.
    """
    modules = [(name, module) for name, module in program.named_modules() if isinstance(module, PyroModule)]
    contexts = {id(module._pyro_context): module._pyro_context for _, module in modules}
    if len(contexts) == 1 and isinstance(context := next(iter(contexts.values())), _Private):
        return context
    context = _Private()
    # The parameters of an automatic guide have the names of its latents, so that their paths need a prefix.
    automatic = isinstance(getattr(program, "program", None), AutoGuide)
    for name, module in modules:
        place = name.removeprefix("program").removeprefix(".")
        module._pyro_name = f"automatic.{place}".removesuffix(".") if automatic else place
        module._pyro_context = context
    return context


class LocalParams(Messenger):
    """Answers ``pyro.param`` statements from the program's parameters, and hides them from all other handlers."""

    def __init__(self, program: HandWritten):
        super().__init__()
        self.program = program

    def _pyro_param(self, msg: Site) -> None:
        msg["stop"] = True
        if msg["done"] or msg["fn"] != pyro.get_param_store().get_param:
            return  # the statement of a PyroModule already has its value
        msg["value"], msg["done"] = self._value(msg), True

    def _value(self, msg: Site) -> torch.Tensor:
        params, name = self.program.local_params, msg["name"]
        key = name.replace(".", "$")
        # A tensor, a function that makes one, or None.
        init: Any = msg["args"][1] if len(msg["args"]) > 1 else None
        if key not in params and (name in self.program.passed or isinstance(init, torch.nn.Parameter)):
            # pyro.module, or a statement with a parameter of a module.
            self.program.passed.add(name)
            if isinstance(init, torch.nn.Parameter) and all(init is not p for p in self.program.parameters()):
                params[key] = init  # not a parameter of the program, as in the closure of a function
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
