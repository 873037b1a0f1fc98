"""The device that a user names, for ``lfm.fit`` and ``Fit.to``."""

from __future__ import annotations

import torch

from pyro_lfm.errors import DeclarationError
from pyro_lfm.inference.processes.joining import local_device


def device_of(device: str | torch.device) -> torch.device:
    """The device, tried out with an empty tensor; "auto" is a GPU where there is one.

    Raises:
        DeclarationError: torch has no such device here.

    >>> device_of("cpu")
    device(type='cpu')
    """
    if isinstance(device, str) and device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch_device = torch.device(device)
        if torch_device == torch.device("cuda") and torch.cuda.device_count() > 1:
            # Processes of one machine have a GPU each.
            torch_device = torch.device("cuda", local_device(torch.cuda.device_count()))
        torch.empty(0, device=torch_device)
    except (RuntimeError, AssertionError, TypeError):
        cards = [f"cuda:{k}" for k in range(torch.cuda.device_count())]
        raise DeclarationError(
            f'device must be "auto" or one that torch has here, {", ".join(["cpu", *cards])}; got {device!r}'
        ) from None
    return torch_device
