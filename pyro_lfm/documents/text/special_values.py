"""Values of a text that are no parts: tensors, constraints and optimizers, as a ``Reader`` meets them in arguments."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.distributions import constraints

from pyro_lfm.documents.text.alternatives import Alternatives
from pyro_lfm.documents.text.expressions import Call, Name, parse, shown
from pyro_lfm.documents.text.registry import optimizers, suggestion
from pyro_lfm.errors import DeclarationError


class Notes(Protocol):
    """Takes the faults of a text, as ``Reader`` does."""

    @property
    def tensors(self) -> Mapping[str, Tensor] | None: ...

    def note(self, fault: str) -> object: ...


_DTYPES = {
    str(kind).removeprefix("torch."): kind
    for kind in (
        torch.float32,
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.bool,
        torch.uint8,
    )
}


def tensor_of(call: Call, reader: Notes) -> Any:
    """A tensor in a text: numbers with their type, or the name of one beside the text."""
    options = dict(call.named)
    if "entry" in options:
        entry = options["entry"]
        if reader.tensors is None or not isinstance(entry, str) or entry not in reader.tensors:
            return reader.note(f"the tensor {entry!r} stands in weights.safetensors, which is not here")
        return reader.tensors[entry]
    numbers = call.positional[0] if call.positional else options.get("value")
    dtype = options.get("dtype", "float32")
    name = dtype.name if isinstance(dtype, Name) else str(dtype)
    kind = _DTYPES.get(name.removeprefix("torch."))
    if kind is None:
        return reader.note(f"dtype must be one of {', '.join(_DTYPES)}; got {name}")
    fault = Alternatives(frozenset({"numbers"})).fault_of(numbers)
    if fault is not None:
        return reader.note(fault)
    try:
        return torch.tensor(numbers, dtype=kind)
    except (ValueError, TypeError, RuntimeError, OverflowError):
        return reader.note("must be a list whose rows have one length")


def constraint_of(text: str, reader: Notes) -> Any:
    try:
        value = parse(text)
    except DeclarationError as error:
        return reader.note(str(error))
    if isinstance(value, Call):
        return bounded_constraint(value, reader)
    known = _constraints().get(value.name.removeprefix("constraints.")) if isinstance(value, Name) else None
    if not isinstance(known, constraints.Constraint):
        names = [n for n, each in _constraints().items() if isinstance(each, constraints.Constraint)]
        return reader.note(
            f"no constraint is called {text!r}{suggestion(text.removeprefix('constraints.'), names)}"
        )
    return known


def bounded_constraint(call: Call, reader: Notes) -> Any:
    """A constraint with bounds, such as integer_interval(0, 4)."""
    short = call.name.removeprefix("constraints.")
    known = _constraints().get(short)
    numbers = [*call.positional, *call.named.values()]
    if not isinstance(known, type) or not all(isinstance(n, int | float) for n in numbers):
        return reader.note(f"no constraint is called {call.name!r}{suggestion(short, _constraints())}")
    try:
        return known(*call.positional, **call.named)
    except TypeError:
        return reader.note(f"{call.name} takes other arguments")


def optimizer_of(name: str, call: Call, reader: Notes) -> Any:
    """An optimizer with options, as AdamW(weight_decay=0.1) or partial(torch.optim.AdamW, weight_decay=0.1)."""
    if name == "partial":
        first = call.positional[0] if len(call.positional) == 1 else None
        name = first.name.removeprefix("torch.optim.") if isinstance(first, Name) else ""
        if name not in optimizers():
            return reader.note('must be an optimizer with options, as in "AdamW(weight_decay=0.1)"')
    elif call.positional:
        return reader.note("options of an optimizer are given by name, as in AdamW(weight_decay=0.1)")
    known = inspect.signature(optimizers()[name]).parameters
    for option, value in call.named.items():
        if option not in known or option in ("params", "lr"):
            return reader.note(f"{name} has no option {option!r}{suggestion(option, known)}")
        if isinstance(value, Call | Name | Mapping):
            return reader.note(f"option {option} of {name} must be a number; got {shown(value)}")
    options: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in call.named.items()}
    return partial(optimizers()[name], **options) if options else optimizers()[name]


def _constraints() -> dict[str, Any]:
    return {name: value for name, value in vars(constraints).items() if not name.startswith("_")}
