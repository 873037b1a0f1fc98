"""The process that ``fit`` runs in: refuses several processes side by side, and switches gradients on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from pyro_lfm.errors import DeclarationError


def check_single_process() -> None:
    """Refuses to run as one of several processes, as under ``torchrun``: each would train a model of its own.

    Raises:
        DeclarationError: the processes are several.
    """
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    size = torch.distributed.get_world_size() if distributed else 1
    if not distributed and "RANK" in os.environ:
        world = os.environ.get("WORLD_SIZE", "")
        size = int(world) if world.isdigit() else 1
    if size > 1:
        raise DeclarationError(
            f"fit was started in {size} processes, as by torchrun, and cannot share its work among them yet: each would "
            "train a model of its own, on all rows. Run it in one process; where separate fits are wanted, start them "
            "without torchrun"
        )


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
