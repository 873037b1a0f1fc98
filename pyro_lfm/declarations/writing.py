"""Writing the arguments of declarations as Python code, and comparing them. ``Part`` uses both."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn
from torch.distributions import constraints

# Of a tensor with more entries only the shape is written.
_ENTRIES = 100


def written(value: Any) -> str:
    """A value as Python code, where such code exists, else its ``repr``.

    Tensors of the default type and arrays are written as lists. Classes and functions are written by the shortest dotted
    name from which they can be imported.

    >>> written({"scale": torch.ones(2)}), written("z"), written(constraints.integer_interval(0, 4))
    ('{"scale": [1.0, 1.0]}', '"z"', 'constraints.integer_interval(0, 4)')
    >>> written(torch.optim.Adam), written(torch.nn.Linear), written(torch.zeros(3).double())
    ('torch.optim.Adam', 'torch.nn.Linear', 'torch.tensor([0.0, 0.0, 0.0], dtype=torch.float64)')
    """
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return _numbers(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{written(k)}: {written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(written, value))}{',' * (len(value) == 1)})"
    if isinstance(value, partial):
        options = [f"{name}={written(v)}" for name, v in value.keywords.items()]
        return f"partial({', '.join([written(value.func), *map(written, value.args), *options])})"
    if isinstance(value, constraints.Constraint):
        return _constraint(value)
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return _importable_name(value)
    text = repr(value)
    # The repr of a module with submodules takes several lines.
    return (
        f"{type(value).__name__}(...)"
        if isinstance(value, nn.Module) and "\n" in text
        else text.split(" at 0x")[0]
    )


def same(one: Any, other: Any) -> bool:
    """Whether two arguments have the same value. Tensors, arrays and lists are compared as numbers.

    >>> same(torch.ones(2), [1.0, 1.0]), same(constraints.interval(0, 1), constraints.interval(0, 1)), same((1,), (1, 2))
    (True, True, False)
    """
    if one is other:
        return True
    if isinstance(one, torch.Tensor | np.ndarray) or isinstance(other, torch.Tensor | np.ndarray):
        return _same_numbers(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if type(one) is not type(other):
        return not isinstance(one, nn.Module) and bool(one == other)
    if isinstance(one, partial):
        return same((one.func, one.args, one.keywords), (other.func, other.args, other.keywords))
    if isinstance(one, constraints.Constraint):
        return same(vars(one), vars(other))
    if isinstance(one, nn.Module) and hasattr(one, "declared"):
        return same(one.declared, other.declared)
    return bool(one == other)


def _same_numbers(one: ArrayLike | torch.Tensor, other: ArrayLike | torch.Tensor) -> bool:
    try:
        first, second = (
            value.detach().cpu() if isinstance(value, torch.Tensor) else torch.as_tensor(np.asarray(value))
            for value in (one, other)
        )
    except (TypeError, ValueError, RuntimeError):
        return False
    if not first.is_floating_point() and not second.is_floating_point():
        return torch.equal(first.long(), second.long())
    # A tensor of another floating type keeps it; numbers of any other kind take torch's default type.
    kinds = [
        value.dtype
        if isinstance(value, torch.Tensor) and value.is_floating_point()
        else torch.get_default_dtype()
        for value in (one, other)
    ]
    if kinds[0] != kinds[1]:
        return False
    first, second = first.to(kinds[0]), second.to(kinds[1])
    return first.shape == second.shape and torch.allclose(
        first.double(), second.double(), rtol=0, atol=0, equal_nan=True
    )


def _numbers(value: torch.Tensor | np.ndarray[Any, Any] | np.generic) -> str:
    if math.prod(value.shape) > _ENTRIES:
        return f"{type(value).__name__}(shape={tuple(value.shape)})"
    text = written(value.tolist())
    if (
        isinstance(value, torch.Tensor)
        and value.is_floating_point()
        and value.dtype != torch.get_default_dtype()
    ):
        return f"torch.tensor({text}, dtype={value.dtype})"
    return text


def _constraint(value: constraints.Constraint) -> str:
    names = {name: known for name, known in vars(constraints).items() if not name.startswith("_")}
    for name, known in names.items():
        if known is value:
            return f"constraints.{name}"
    for name, known in names.items():
        if known is type(value) and name.islower():
            return f"constraints.{name}({', '.join(map(written, vars(value).values()))})"
    return repr(value)


def _importable_name(value: type | Callable[..., Any]) -> str:
    """The shortest dotted name of a class or function; for this package and the user's own code the bare name."""
    module: str = getattr(value, "__module__", None) or ""
    name: str = value.__qualname__
    if module.split(".")[0] not in ("torch", "pyro", "zuko", "gpytorch"):
        return name.split("<locals>.")[-1]
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        holder = sys.modules.get(".".join(parts[:end]))
        if getattr(holder, name, None) is value:
            return ".".join([*parts[:end], name])
    return f"{module}.{name}"
