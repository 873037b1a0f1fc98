"""Reads calls and tables as parts, and gathers the errors of all of them, each with its path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from pyro_lfm.declarations import Part
from pyro_lfm.documents.text.alternatives import Alternatives
from pyro_lfm.documents.text.arguments import by_position, named_arguments
from pyro_lfm.documents.text.expressions import Call, Name, is_call, parse, shown
from pyro_lfm.documents.text.models import model_of, parameters_of
from pyro_lfm.documents.text.registry import Registry, catalogue, optimizers, suggestion
from pyro_lfm.documents.text.special_values import bounded_constraint, constraint_of, optimizer_of, tensor_of
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
            return self.note(f"must be a {what}, as an expression or a table; got {shown(value)}")
        return value

    def built(self, call: Call, what: str, kind: type = object) -> Any:
        """The part of a call."""
        if call.name == "python":
            return self._python(call)
        maker = self.registry.named(call.name)
        if maker is None:
            among = [n for n in self.registry.names() if self._is_kind(n, kind)]
            return self.note(
                f"no {what} is called {call.name!r}{suggestion(call.name, among or self.registry.names())}"
            )
        if isinstance(maker, FunctionType) and call.name not in catalogue():
            # A function of the user's is handed on, and never called with arguments of a text.
            if call.positional or call.named:
                return self.note(f"{call.name} is a function, which is named alone: write {call.name}")
            return maker
        return self.made(maker, call)

    def _is_kind(self, name: str, kind: type) -> bool:
        value = self.registry.named(name)
        return isinstance(value, type) and issubclass(value, kind)

    def made(self, maker: Callable[..., Any], call: Call) -> Any:
        """The result of a constructor, called with the arguments that were read."""
        try:
            named = named_arguments(maker, call)
        except DeclarationError as error:
            return self.note(str(error))
        arguments = self._validated(maker, named, call.name)
        if isinstance(arguments, Broken):
            return arguments
        try:
            is_factor = isinstance(maker, type) and issubclass(maker, Factor)
            code = arguments.pop("code", None) if is_factor else None
            positional, options = by_position(maker, arguments, 1 if call.is_table else len(call.positional))
            part = maker(*positional, **options)
            return part if code is None else part.coded(code)
        except DeclarationError as error:
            return self.note(str(error))
        except (TypeError, ValueError, RuntimeError, ArithmeticError, AttributeError, LookupError) as error:
            return self.note(f"{call.name} refuses these arguments: {first_line(error)}")

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
                        else f"{name} has no argument {argument!r}"
                        + (suggestion(argument, known) or f": its arguments are {', '.join(known)}")
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
            return self._of_name(value, alternatives) if not is_call(value) else constraint_of(value, self)
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
            return constraint_of(name, self)
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
            return tensor_of(call, self)
        if call.name.startswith("constraints.") and "constraint" in alternatives.names:
            return bounded_constraint(call, self)
        short = call.name.removeprefix("torch.optim.")
        if "optimizer" in alternatives.names and (short in optimizers() or call.name == "partial"):
            return optimizer_of(short, call, self)
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

    def _python(self, call: Call) -> Any:
        """A part that stands in Python alone: its class must be passed."""
        kinds = [kind for kind in ("function", "module", "name") if kind in call.named]
        name = str(call.named[kinds[0]]) if kinds else ""
        maker = self.registry.passed(name)
        if "module" in call.named and (not isinstance(maker, type) or parameters_of(maker)):
            return self.note(
                f"{name} is a module of Python, whose arguments no text holds: register a function that makes it by "
                "@lfm.register, and declare that"
            )
        if maker is None:
            return self.note(
                f"{name or 'this part'} is Python, which no text holds: register its class or function by "
                "@lfm.register and name that, or pass it in parts=, as in lfm.load(folder, parts=[...])"
            )
        if "function" in call.named:
            return maker
        return self.made(maker, Call(name, (), {n: v for n, v in call.named.items() if n not in kinds}))


_EXAMPLES = {
    "factor": "Gaussian",
    "inference": "SVI",
    "objective": "ELBO",
    "source": "MLP",
    "covariance": "Full",
}


def _depth(value: Any) -> int:
    depth = 0
    while isinstance(value, list | tuple) and depth <= _DIMENSIONS:
        depth, value = depth + 1, value[0] if value else None
    return depth


def _name(value: object) -> str:
    return (
        f"the {next((w for k, w in _KINDS.items() if isinstance(value, k)), 'value')} {type(value).__name__}"
    )
