"""The arguments of a call, by the names of the parameters of a constructor, and as the constructor takes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from pyro_lfm.documents.text.expressions import Call
from pyro_lfm.documents.text.models import parameters_of
from pyro_lfm.errors import DeclarationError


def named_arguments(maker: Callable[..., Any], call: Call) -> dict[str, Any]:
    """The arguments of a call by name, those by position too.

    Raises:
        DeclarationError: more arguments by position than there are, or two values for one.

    >>> from pyro_lfm import MLP
    >>> named_arguments(MLP, Call("MLP", (64, 32), {"dropout": 0.1}))
    {'hidden': [64, 32], 'dropout': 0.1}
    """
    parameters = [p for p, _ in parameters_of(maker).values() if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    by_place: dict[str, Any] = {}
    for place, value in enumerate(call.positional):
        parameter = parameters[min(place, len(parameters) - 1)] if parameters else None
        if parameter is not None and parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            by_place.setdefault(parameter.name, []).append(value)
        elif parameter is not None and place < len(parameters):
            by_place[parameter.name] = value
        else:
            raise DeclarationError(
                f"{call.name} takes {len(parameters)} arguments by position; got {len(call.positional)}"
            )
    twice = by_place.keys() & call.named.keys()
    if twice:
        raise DeclarationError(f"{call.name} has two values for {sorted(twice)[0]}")
    return {**by_place, **call.named}


def by_position(
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
