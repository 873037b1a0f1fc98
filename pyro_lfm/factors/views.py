"""Views of modules: the same parameters, with some parts replaced."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def view(module: M, **parts: nn.Module) -> M:
    """A module with the very same parameters, buffers and parts as another, but for the parts that are named."""
    twin = object.__new__(type(module))
    twin.__dict__.update(module.__dict__)
    twin.__dict__["_modules"] = {**module._modules, **parts}
    return twin
