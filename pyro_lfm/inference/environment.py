"""What a fit finds around it: processes that run it side by side, and torch's modes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from pyro_lfm.errors import DeclarationError


def check_processes() -> None:
    """Refuses to run as one of several processes, as under ``torchrun``, which would train models that know nothing of
    each other.
    """
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    size = torch.distributed.get_world_size() if distributed else 1
    if not distributed and "RANK" in os.environ:
        given = os.environ.get("WORLD_SIZE", "")
        size = int(given) if given.isdigit() else 1
    if size > 1:
        raise DeclarationError(
            f"fit was started in {size} processes, as by torchrun, and cannot share its work among them yet: each would "
            "train a model of its own, on all rows. Run it in one process; where separate fits are wanted, start them "
            "without torchrun"
        )


@contextmanager
def training(programs: Iterable[nn.Module]) -> Iterator[None]:
    """Gradients are kept, whatever mode the caller is in: no_grad, inference_mode, set_grad_enabled(False).

    Raises:
        DeclarationError: parameters that were made in inference mode, which torch can never train.
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
