"""Sources in the words of a formula."""

from __future__ import annotations

from typing import Any

from torch import nn

from pyro_lfm.distributions.sources import KINDS, Fixed, Learned, PerRow


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
