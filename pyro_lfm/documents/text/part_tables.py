"""Writes parts as tables, the form that stands in a document: ``{"type": "MLP", "hidden": [64]}``."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import constraints

from pyro_lfm.declarations import Part, written
from pyro_lfm.documents.text.registry import Registry, optimizers
from pyro_lfm.factors import Factor
from pyro_lfm.factors.variables import Code
from pyro_lfm.objectives import Objective, Penalty
from pyro_lfm.schedules import Ramp

# Larger tensors stand beside the text.
_ENTRIES = 100


class Writer:
    """Writes parts as tables.

    Args:
        beside: takes the tensors of more than 100 entries, by the name under which the text refers to them. Without it
            they stand in the table as they are.

    >>> from pyro_lfm import MLP
    >>> Writer().table(MLP(64, activation="tanh"))
    {'type': 'MLP', 'hidden': [64], 'activation': 'tanh'}
    """

    def __init__(self, beside: dict[str, Tensor] | None = None):
        self.beside, self.registry = beside, Registry()

    def table(self, part: object, path: str = "") -> dict[str, Any]:
        """A part as a table.

        Args:
            path: the place of the part in the document, which names large tensors.
        """
        if isinstance(part, Ramp):
            name, arguments = part.as_written
            return {"type": f"schedules.{name}", **arguments}
        if isinstance(part, Part | Code):
            return self._table_of_part(part, path)
        return python(part)

    def _table_of_part(self, part: Part | Code, path: str) -> dict[str, Any]:
        arguments = part.arguments if isinstance(part, Code) else self._arguments(part)
        code = {"code": part.code} if isinstance(part, Factor) and part.code is not None else {}
        named = {
            name: self.value(value, f"{path}.{name}" if path else name)
            for name, value in {**arguments, **code}.items()
            if value is not None
        }
        name = self.registry.name_of(type(part))
        return {"type": name, **named} if name else {"type": "python", "name": type(part).__name__, **named}

    def _arguments(self, part: Part) -> dict[str, Any]:
        """The arguments that differ from their defaults."""
        parameters = type(part).__signature__.parameters
        arguments = part.arguments
        if isinstance(part, Objective | Penalty):
            # At the end of its schedules its attributes are numbers, while its arguments stay as they were written.
            arguments = {name: vars(part).get(name, value) for name, value in arguments.items()}
        return {name: value for name, value in arguments.items() if not _is_default(value, parameters[name])}

    def value(self, value: Any, path: str = "") -> Any:
        """An argument as a document holds it."""
        if isinstance(value, Tensor | np.ndarray):
            return self._numbers(value, path)
        if isinstance(value, np.generic):
            return value.item()
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, list | tuple):
            return [self.value(entry, f"{path}.{k}") for k, entry in enumerate(value)]
        if isinstance(value, Mapping):
            return {str(key): self.value(entry, f"{path}.{key}") for key, entry in value.items()}
        if isinstance(value, Part | Code | Ramp):
            return self.table(value, path)
        if isinstance(value, constraints.Constraint):
            return written(value)
        if isinstance(value, partial):
            return self._optimizer(value)
        if value in optimizers().values():
            return value.__name__
        name = self.registry.name_of(value)
        return python(value) if name is None else name

    def _numbers(self, value: Tensor | np.ndarray[Any, Any], path: str) -> Any:
        tensor = value.detach().cpu() if isinstance(value, Tensor) else torch.as_tensor(value)
        if not isinstance(value, Tensor) and tensor.is_floating_point():
            # An array of any precision takes the default type, as lists do.
            tensor = tensor.to(torch.get_default_dtype())
        if tensor.numel() > _ENTRIES:
            if self.beside is None:
                return tensor
            self.beside[path] = tensor
            return {"type": "tensor", "entry": path}
        plain = not tensor.is_floating_point() or tensor.dtype == torch.get_default_dtype()
        numbers = tensor.tolist()
        if plain:
            return numbers
        return {"type": "tensor", "value": numbers, "dtype": str(tensor.dtype).removeprefix("torch.")}

    def _optimizer(self, value: partial[Any]) -> Any:
        """An optimizer with options."""
        if value.func not in optimizers().values() or value.args:
            return python(value)
        options = {name: self.value(option) for name, option in value.keywords.items()}
        return {"type": value.func.__name__, **options}


def python(value: object) -> dict[str, Any]:
    """The table of a value that stands in Python alone: a class or function itself, or an instance of a class.

    A module does not know the arguments that it was made with.
    """
    if inspect.isroutine(value) or isinstance(value, type):
        return {"type": "python", "function": value.__name__}
    if isinstance(value, torch.nn.Module):
        return {"type": "python", "module": type(value).__name__}
    return {"type": "python", "name": type(value).__name__}


def _is_default(value: Any, parameter: inspect.Parameter) -> bool:
    if parameter.kind is parameter.VAR_POSITIONAL:
        return not value
    default = parameter.default
    if (
        default is parameter.empty
        or isinstance(value, Tensor | np.ndarray)
        or type(value) is not type(default)
    ):
        return False
    return bool(value == default) and not (isinstance(value, float) and math.isnan(value))
