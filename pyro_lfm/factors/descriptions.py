"""What a declaration says in words: sources as a formula shows them, and the names of parents."""

from __future__ import annotations

from typing import Any

from torch import nn

from pyro_lfm.errors import DeclarationError
from pyro_lfm.sources.sources import KINDS, Fixed, Learned, PerRow


def source_words(source: Any, trunk: Any) -> str:
    """A parameter's source, as in ``MLP(200)``; where it has none of its own, by the trunk that all share."""
    if source is None:
        return "learned" if trunk is None else f"head of {source_words(trunk, None)}"
    if isinstance(source, Learned | Fixed | PerRow):
        return KINDS[type(source)]
    if isinstance(source, str):
        return source
    name = type(source).__name__ if isinstance(source, nn.Module) else getattr(source, "__name__", None)
    return name or repr(source).split(" at 0x")[0]


def parent_names(given: Any) -> tuple[str, ...]:
    """The names in ``given=``, as a tuple."""
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise DeclarationError(f'given must be a name or a tuple of names, as in given="z"; got {given!r}')
    if len(set(names)) < len(names):
        raise DeclarationError(f"given must name each parent once; got {tuple(names)}")
    return tuple(names)
