"""The error of a declaration whose arguments do not fit its class. The base class of declarations raises it."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from pyro_lfm.errors import DeclarationError


def unfit_arguments(
    name: str,
    signature: inspect.Signature,
    instead: Mapping[str, str],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> DeclarationError | None:
    """The error of arguments that a class does not take; None if it takes them.

    Args:
        name: of the class.
        signature: of its constructor.
        instead: the remedy for each argument that a user may expect, such as ``probs``.
    """
    try:
        signature.bind(*args, **kwargs)
        return None
    except TypeError as error:
        reason = str(error)
    takes = f"{name} takes {', '.join(signature.parameters) or 'no arguments'}"
    unknown = [key for key in kwargs if key not in signature.parameters]
    if not unknown:
        return DeclarationError(f"{takes}; got a call with {reason}")
    remedies = [remedy for key in unknown if (remedy := _remedy(key, signature.parameters, instead))]
    words = "".join(f": {remedy}" for remedy in remedies[:1])
    return DeclarationError(f"{takes}; got {', '.join(f'{key}=' for key in unknown)}{words}")


def _remedy(key: str, parameters: Mapping[str, Any], instead: Mapping[str, str]) -> str:
    if key in instead:
        return f"give {instead[key]}"
    close = difflib.get_close_matches(key, parameters, n=1)
    return f"did you mean {close[0]}=?" if close else ""
