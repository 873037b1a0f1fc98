"""Reads calls and tables as parts, and gathers the errors of all of them, each with its path."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor
from torch.distributions import constraints

from pyro_lfm.declarations import Part
from pyro_lfm.documents.text.alternatives import Alternatives
from pyro_lfm.documents.text.expressions import Call, Name, is_call, parse
from pyro_lfm.documents.text.models import model_of, parameters_of
from pyro_lfm.documents.text.registry import Registry, optimizers, suggestion
from pyro_lfm.errors import DeclarationError, first_line
from pyro_lfm.factors import Factor
from pyro_lfm.inference.task import Inference
from pyro_lfm.objectives import Objective, Penalty
from pyro_lfm.sources.covariances import Covariance
from pyro_lfm.sources.source import Source

# What a part of each class is called in messages.
_KINDS: dict[type, str] = {
    Factor: "factor",
    Source: "source",
    Covariance: "covariance",
    Objective: "objective",
    Penalty: "penalty",
    Inference: "inference",
}
# A list of numbers may be nested so deep, as tensors are.
_DIMENSIONS = 12
_PATH = 60


class Broken:
    """Takes the place of a value that could not be read, so that its neighbours are read all the same."""


BROKEN = Broken()


class Reader:
    """Reads the values of one text, and notes every fault under its path.

    Args:
        registry: the names that the text may use.
        tensors: tensors that the text refers to, by name.
    """

    def __init__(self, registry: Registry, tensors: Mapping[str, Tensor] | None = None):
        self.registry, self.tensors = registry, tensors
        self.errors: list[tuple[str, str]] = []
        self._path: list[str] = []

    @property
    def path(self) -> str:
        return ".".join(self._path)

    @contextmanager
    def at(self, *names: str) -> Iterator[None]:
        """A context in which faults belong to a place below the present one."""
        if len(self._path) > _PATH:
            raise RecursionError
        self._path.extend(names)
        try:
            yield
        finally:
            del self._path[len(self._path) - len(names) :]

    def note(self, fault: str) -> Broken:
        """Notes a fault of the present place."""
        self.errors.append((self.path, fault))
        return BROKEN

    def part(self, value: Any, kind: type, what: str | None = None) -> Any:
        """A part of a class, written as an expression or as a table.

        Args:
            what: the name of such parts in messages, such as "factor".
        """
        what = what or _KINDS.get(kind, "part")
        call = self.call(value, what)
        if isinstance(call, Broken):
            return call
        part = self.built(call, what, kind)
        if not isinstance(part, Broken | kind):
            return self.note(f"must be a {what}; got {_name(part)}, which is none")
        return part

    def call(self, value: Any, what: str) -> Call | Broken:
        """A value as a call: an expression is parsed, and a table gives its type."""
        if isinstance(value, str):
            try:
                value = parse(value)
            except DeclarationError as error:
                return self.note(str(error))
        if isinstance(value, Name):
            return self.note(f"must be a {what}: write {value.name}(...)")
        if isinstance(value, Mapping):
            if not isinstance(value.get("type"), str):
                return self.note(f'must name the {what}, as in type = "{_EXAMPLES.get(what, "MLP")}"')
            return Call(
                value["type"], (), {n: entry for n, entry in value.items() if n != "type"}, is_table=True
            )
        if not isinstance(value, Call):
            return self.note(f"must be a {what}, as an expression or a table; got {_shown(value)}")
        return value

    def built(self, call: Call, what: str, kind: type = object) -> Any:
        """The part of a call."""
        if call.name == "python":
            return self._python(call)
        maker = self.registry.named(call.name)
        if maker is None or not isinstance(maker, type | Callable):
            among = [n for n in self.registry.names() if self._is_kind(n, kind)]
            return self.note(
                f"no {what} is called {call.name!r}{suggestion(call.name, among or self.registry.names())}"
            )
        return self.made(maker, call)

    def _is_kind(self, name: str, kind: type) -> bool:
        value = self.registry.named(name)
        return isinstance(value, type) and issubclass(value, kind)

    def made(self, maker: Callable[..., Any], call: Call) -> Any:
        """The result of a constructor, called with the arguments that were read."""
        named = self._named(maker, call)
        if isinstance(named, Broken):
            return named
        arguments = self._validated(maker, named, call.name)
        if isinstance(arguments, Broken):
            return arguments
        try:
            code = (
                arguments.pop("code", None) if isinstance(maker, type) and issubclass(maker, Factor) else None
            )
            positional, options = _by_position(maker, arguments, 1 if call.is_table else len(call.positional))
            part = maker(*positional, **options)
            return part if code is None else part.coded(code)
        except DeclarationError as error:
            return self.note(str(error))
        except (TypeError, ValueError, RuntimeError, ArithmeticError, AttributeError, LookupError) as error:
            return self.note(f"{call.name} refuses these arguments: {first_line(error)}")

    def _named(self, maker: Callable[..., Any], call: Call) -> dict[str, Any] | Broken:
        """The arguments of a call by name, those by position too."""
        named = dict(call.named)
        parameters = [p for p, _ in parameters_of(maker).values()]
        for place, value in enumerate(call.positional):
            free = [p for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
            if place < len(free) and free[place].kind is not inspect.Parameter.VAR_POSITIONAL:
                name = free[place].name
                if name in named:
                    return self.note(f"{call.name} has two values for {name}")
                named[name] = value
            elif free and free[-1].kind is inspect.Parameter.VAR_POSITIONAL:
                named.setdefault(free[-1].name, [])
                if not isinstance(named[free[-1].name], list):
                    return self.note(f"{call.name} has two values for {free[-1].name}")
                named[free[-1].name].append(value)
            else:
                return self.note(
                    f"{call.name} takes {len(free)} arguments by position; got {len(call.positional)}"
                )
        return named

    def _validated(
        self, maker: Callable[..., Any], named: dict[str, Any], name: str
    ) -> dict[str, Any] | Broken:
        """The arguments, read and checked by the pydantic model of the part."""
        before, known = len(self.errors), parameters_of(maker)
        try:
            model = model_of(maker).model_validate(named, context=self)
        except ValidationError as error:
            for each in error.errors(include_url=False, include_context=False):
                argument = str(each["loc"][0]) if each["loc"] else ""
                with self.at(argument):
                    self.note(
                        f"{name} needs {argument}"
                        if each["type"] == "missing"
                        else f"{name} has no argument {argument!r}{suggestion(argument, known)}"
                    )
            return BROKEN
        if len(self.errors) > before:
            return BROKEN
        return {n: getattr(model, f"field_{n}") for n in named if n in known}

    def argument(self, name: str, value: Any, alternatives: Alternatives) -> Any:
        with self.at(name):
            return self.value(value, alternatives)

    def value(self, value: Any, alternatives: Alternatives) -> Any:
        """A value that an argument may take."""
        if isinstance(value, Name):
            return self._of_name(value.name, alternatives)
        if isinstance(value, str):
            return self._of_string(value, alternatives)
        if isinstance(value, Call) or (isinstance(value, Mapping) and isinstance(value.get("type"), str)):
            return self._of_call(value, alternatives)
        if isinstance(value, torch.nn.Module) or (
            isinstance(value, Tensor) and "numbers" in alternatives.names
        ):
            return value
        if isinstance(value, Mapping) and alternatives.entries is not None:
            entries = {
                key: self.argument(str(key), each, alternatives.entries) for key, each in value.items()
            }
            return BROKEN if any(isinstance(each, Broken) for each in entries.values()) else entries
        if isinstance(value, list | tuple) and _depth(value) > _DIMENSIONS:
            return self.note(f"must be a list that is nested at most {_DIMENSIONS} deep")
        fault = alternatives.fault_of(value)
        return value if fault is None else self.note(fault)

    def _of_string(self, value: str, alternatives: Alternatives) -> Any:
        if value in alternatives.literals:
            return value
        takes_expression = alternatives.takes_parts or "numbers" in alternatives.names
        if takes_expression and is_call(value):
            try:
                return self.value(parse(value), alternatives)
            except DeclarationError as error:
                return self.note(str(error))
        if "constraint" in alternatives.names:
            return self._of_name(value, alternatives) if not is_call(value) else self._constraint(value)
        known = self.registry.named(value)
        if alternatives.takes_names and ("str" not in alternatives.names or callable(known)):
            return self._of_name(value, alternatives)
        fault = alternatives.fault_of(value)
        return value if fault is None else self.note(fault)

    def _of_name(self, name: str, alternatives: Alternatives) -> Any:
        """The class, function, optimizer or constraint of a name."""
        if name == "None" and "None" in alternatives.names:
            return None
        if "constraint" in alternatives.names:
            return self._constraint(name)
        short = name.removeprefix("torch.optim.")
        if "optimizer" in alternatives.names and short in optimizers():
            return optimizers()[short]
        known = self.registry.named(name)
        if (
            alternatives.takes_names
            and known is not None
            and not (isinstance(known, type) and issubclass(known, Part))
        ):
            return known
        if known is not None:
            return self.note(f"must be {alternatives.words}: write {name}(...)")
        among = optimizers() if "optimizer" in alternatives.names else self.registry.names()
        return self.note(f"must be {alternatives.words}; got the name {name!r}{suggestion(name, among)}")

    def _of_call(self, value: Call | Mapping[str, Any], alternatives: Alternatives) -> Any:
        call = self.call(value, "part")
        if isinstance(call, Broken):
            return call
        if call.name in ("tensor", "torch.tensor") and "numbers" in alternatives.names:
            return self._tensor(call)
        if call.name.startswith("constraints.") and "constraint" in alternatives.names:
            return self._bounded(call)
        short = call.name.removeprefix("torch.optim.")
        if "optimizer" in alternatives.names and (short in optimizers() or call.name == "partial"):
            return self._optimizer(short, call)
        if not alternatives.takes_parts:
            fault = alternatives.fault_of({})
            return self.note(str(fault).replace("{}", f"{call.name}(...)"))
        what = "source" if "source" in alternatives.names else "part"
        kind: type = Source if what == "source" else object
        if len(alternatives.kinds) == 1 and not alternatives.takes_names:
            (kind,) = alternatives.kinds
            what = _KINDS.get(kind, "part")
        part = self.built(call, what, kind)
        if isinstance(part, Broken):
            return part
        known = tuple(alternatives.kinds) + ((Source,) if "source" in alternatives.names else ())
        loose = (
            "function" in alternatives.names and callable(part) and not isinstance(part, Factor | Covariance)
        )
        if known and not isinstance(part, known) and not loose and "anything" not in alternatives.names:
            return self.note(f"must be {alternatives.words}; got {_name(part)}")
        return part

    def _tensor(self, call: Call) -> Any:
        """A tensor in a text: numbers with their type, or the name of one beside the text."""
        options = dict(call.named)
        if "entry" in options:
            entry = options["entry"]
            if self.tensors is None or not isinstance(entry, str) or entry not in self.tensors:
                return self.note(f"the tensor {entry!r} stands in weights.safetensors, which is not here")
            return self.tensors[entry]
        numbers = call.positional[0] if call.positional else options.get("value")
        dtype = options.get("dtype", "float32")
        name = dtype.name if isinstance(dtype, Name) else str(dtype)
        kind = _DTYPES.get(name.removeprefix("torch."))
        if kind is None:
            return self.note(f"dtype must be one of {', '.join(_DTYPES)}; got {name}")
        fault = Alternatives(frozenset({"numbers"})).fault_of(numbers)
        if fault is not None:
            return self.note(fault)
        try:
            return torch.tensor(numbers, dtype=kind)
        except (ValueError, TypeError, RuntimeError, OverflowError):
            return self.note("must be a list whose rows have one length")

    def _constraint(self, text: str) -> Any:
        try:
            value = parse(text)
        except DeclarationError as error:
            return self.note(str(error))
        if isinstance(value, Call):
            return self._bounded(value)
        known = (
            _constraints().get(value.name.removeprefix("constraints.")) if isinstance(value, Name) else None
        )
        if not isinstance(known, constraints.Constraint):
            names = [n for n, each in _constraints().items() if isinstance(each, constraints.Constraint)]
            return self.note(
                f"no constraint is called {text!r}{suggestion(text.removeprefix('constraints.'), names)}"
            )
        return known

    def _bounded(self, call: Call) -> Any:
        """A constraint with bounds, such as integer_interval(0, 4)."""
        short = call.name.removeprefix("constraints.")
        known = _constraints().get(short)
        numbers = [*call.positional, *call.named.values()]
        if not isinstance(known, type) or not all(isinstance(n, int | float) for n in numbers):
            return self.note(f"no constraint is called {call.name!r}{suggestion(short, _constraints())}")
        try:
            return known(*call.positional, **call.named)
        except TypeError:
            return self.note(f"{call.name} takes other arguments")

    def _optimizer(self, name: str, call: Call) -> Any:
        """An optimizer with options, as AdamW(weight_decay=0.1) or partial(torch.optim.AdamW, weight_decay=0.1)."""
        if name == "partial":
            first = call.positional[0] if len(call.positional) == 1 else None
            name = first.name.removeprefix("torch.optim.") if isinstance(first, Name) else ""
            if name not in optimizers():
                return self.note('must be an optimizer with options, as in "AdamW(weight_decay=0.1)"')
        elif call.positional:
            return self.note("options of an optimizer are given by name, as in AdamW(weight_decay=0.1)")
        known = inspect.signature(optimizers()[name]).parameters
        for option, value in call.named.items():
            if option not in known or option in ("params", "lr"):
                return self.note(f"{name} has no option {option!r}{suggestion(option, known)}")
            if isinstance(value, Call | Name | Mapping):
                return self.note(f"option {option} of {name} must be a number; got {_shown(value)}")
        options: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in call.named.items()}
        return partial(optimizers()[name], **options) if options else optimizers()[name]

    def _python(self, call: Call) -> Any:
        """A part that stands in Python alone: its class must be passed."""
        name = str(call.named.get("function", call.named.get("name", "")))
        maker = self.registry.passed(name)
        if maker is None:
            return self.note(
                f"{name or 'this part'} is Python, which no text holds: register its class or function by "
                "@lfm.register and name that, or pass it in parts=, as in lfm.load(folder, parts=[...])"
            )
        if "function" in call.named:
            return maker
        return self.made(maker, Call(name, (), {n: v for n, v in call.named.items() if n != "name"}))


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
_EXAMPLES = {
    "factor": "Gaussian",
    "inference": "SVI",
    "objective": "ELBO",
    "source": "MLP",
    "covariance": "Full",
}


def _constraints() -> dict[str, Any]:
    return {name: value for name, value in vars(constraints).items() if not name.startswith("_")}


def _by_position(
    maker: Callable[..., Any], arguments: dict[str, Any], count: int
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments as the constructor takes them: the first ones and those of ``*name`` by position, the rest by name.

    Args:
        count: the number of arguments that were written by position.
    """
    parameters = inspect.signature(maker).parameters
    several = next((n for n, p in parameters.items() if p.kind is p.VAR_POSITIONAL), None)
    before = [n for n, p in parameters.items() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if several is None or not arguments.get(several):
        only = sum(parameters[name].kind is inspect.Parameter.POSITIONAL_ONLY for name in before)
        before = before[: max(count, only)]
    positional = []
    for name in before:
        if name not in arguments:
            break
        positional.append(arguments[name])
    named = {n: v for n, v in arguments.items() if n not in (*before[: len(positional)], several)}
    return [*positional, *arguments.get(several or "", [])], named


def _depth(value: Any) -> int:
    depth = 0
    while isinstance(value, list | tuple) and depth <= _DIMENSIONS:
        depth, value = depth + 1, value[0] if value else None
    return depth


def _name(value: object) -> str:
    return (
        f"the {next((w for k, w in _KINDS.items() if isinstance(value, k)), 'value')} {type(value).__name__}"
    )


def _shown(value: Any) -> str:
    text = "nothing" if value is None else value.name if isinstance(value, Name | Call) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
