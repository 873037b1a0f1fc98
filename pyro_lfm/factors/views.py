"""Views of modules: shallow copies that share all parameters, with some submodules replaced."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def view(module: M, **parts: nn.Module) -> M:
    """A shallow copy of a module that shares its parameters, buffers and submodules, except the submodules given."""
    twin = object.__new__(type(module))
    twin.__dict__.update(module.__dict__)
    twin.__dict__["_modules"] = {**module._modules, **parts}
    return twin
