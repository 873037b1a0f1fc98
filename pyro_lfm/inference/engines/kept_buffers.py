"""``KeptBuffers``: buffers as before a step, such as the running statistics of BatchNorm, for steps that are skipped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

# Entries from which a buffer is copied only when torch has counted a change in it. It does not count those of BatchNorm.
_LARGE = 2**14


@dataclass
class _Kept:
    """A buffer, its copy, and the count of its changes in place at the time of the copy."""

    buffers: dict[str, torch.Tensor | None]
    name: str
    buffer: torch.Tensor | None = None
    copy: torch.Tensor | None = None
    version: int = -1


class KeptBuffers:
    """Copies the buffers of some programs before each step, and puts them back.

    Of large buffers only those are copied that changed since the last copy.

    >>> norm = nn.BatchNorm1d(1)
    >>> kept = KeptBuffers([norm])
    >>> kept.keep()
    >>> _ = norm(torch.full((2, 1), torch.nan))
    >>> kept.restore()
    >>> norm.running_mean
    tensor([0.])
    """

    def __init__(self, programs: Iterable[nn.Module]):
        modules = {id(module): module for program in programs for module in program.modules()}
        self._kept = [_Kept(module._buffers, name) for module in modules.values() for name in module._buffers]

    def keep(self) -> None:
        """Remembers the buffers as they are now."""
        for kept in self._kept:
            buffer = kept.buffers.get(kept.name)
            if buffer is None:
                kept.buffer = kept.copy = None
            elif kept.copy is not None and buffer is kept.buffer and buffer.numel() < _LARGE:
                kept.copy.copy_(buffer)
            elif buffer is not kept.buffer or buffer._version != kept.version:
                kept.buffer, kept.copy, kept.version = buffer, buffer.detach().clone(), buffer._version

    def restore(self) -> None:
        """Puts the buffers back to the values of the last ``keep``."""
        for kept in self._kept:
            buffer, copy = kept.buffer, kept.copy
            if buffer is None or copy is None:
                continue
            if kept.buffers.get(kept.name) is not buffer:
                kept.buffers[kept.name] = buffer
            if buffer.numel() < _LARGE or buffer._version != kept.version:
                with torch.no_grad():
                    buffer.copy_(copy)
                kept.version = buffer._version
