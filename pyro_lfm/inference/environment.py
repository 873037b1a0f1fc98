"""The gradient mode that ``fit`` runs in, whatever mode the caller is in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from pyro_lfm.errors import DeclarationError


@contextmanager
def with_gradients(programs: Iterable[nn.Module]) -> Iterator[None]:
    """Switches gradients on, whatever mode the caller is in: no_grad, inference_mode, set_grad_enabled(False).

    Raises:
        DeclarationError: a parameter was made in inference mode, so that torch can never train it.
    """
    for program in programs:
        for name, parameter in program.named_parameters():
            if parameter.is_inference():
                raise DeclarationError(
                    f"{type(program).__name__}.{name} was made under torch.inference_mode(), so that torch cannot train it: "
                    "declare the model and the guide outside of it"
                )
    with torch.inference_mode(False), torch.enable_grad():
        yield
