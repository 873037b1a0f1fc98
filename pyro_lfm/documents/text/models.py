"""The pydantic model of a part, derived from the signature of its constructor: names, defaults and kinds of arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Protocol, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    create_model,
)

from pyro_lfm.documents.text.alternatives import Alternatives, alternatives_of
from pyro_lfm.factors import Factor


class ArgumentReader(Protocol):
    """Reads an argument, and notes its faults."""

    def argument(self, name: str, value: Any, alternatives: Alternatives) -> Any: ...


@cache
def parameters_of(part: Callable[..., Any]) -> dict[str, tuple[inspect.Parameter, Alternatives]]:
    """The parameters of a part by name, with the values that they may take."""
    signature = inspect.signature(part)
    owner = _owner(part)
    named = {
        name: (parameter, alternatives_of(parameter.annotation, owner))
        for name, parameter in signature.parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    if isinstance(part, type) and issubclass(part, Factor):
        from pyro_lfm.factors.variables import Code

        code = inspect.Parameter("code", inspect.Parameter.KEYWORD_ONLY, default=None)
        named.setdefault("code", (code, Alternatives(frozenset({"None"}), (Code,))))
    return named


def _owner(part: Callable[..., Any]) -> object:
    """The class whose constructor a part has, in whose module the annotations are meant."""
    if not isinstance(part, type):
        return part
    return next((base for base in part.__mro__ if "__init__" in vars(base)), part)


@cache
def model_of(part: Callable[..., Any]) -> type[BaseModel]:
    """The pydantic model of the arguments of a part. It refuses unknown arguments.

    Its values are read by the ``ArgumentReader`` in the context of a validation.

    >>> from pyro_lfm import MLP
    >>> [field.alias for field in model_of(MLP).model_fields.values()]
    ['hidden', 'activation', 'dropout']
    """
    fields: dict[str, Any] = {}
    for name, (parameter, alternatives) in parameters_of(part).items():
        several = parameter.kind is inspect.Parameter.VAR_POSITIONAL
        required = parameter.default is inspect.Parameter.empty and not several
        schema = alternatives.json_schema()
        kind = Annotated[
            Any,
            BeforeValidator(_reading(name, alternatives, several)),
            WithJsonSchema({"type": "array", "items": schema} if several else schema),
        ]
        # A name of pydantic's own is no name of a field.
        fields[f"field_{name}"] = (kind, Field(... if required else None, alias=name))
    summary = (inspect.getdoc(part) or "").splitlines()[:1]
    model: type[BaseModel] = create_model(
        part.__name__,
        __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=()),
        __doc__=" ".join(summary),
        **fields,
    )
    return model


def _reading(name: str, alternatives: Alternatives, several: bool) -> Callable[[Any, ValidationInfo], Any]:
    def read(value: Any, info: ValidationInfo) -> Any:
        reader = cast(ArgumentReader, info.context)
        if not several:
            return reader.argument(name, value, alternatives)
        entries = value if isinstance(value, list) else [value]
        return [reader.argument(name, entry, alternatives) for entry in entries]

    return read
