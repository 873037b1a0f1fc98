"""What is put around a torch optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from pyro_lfm.shapes import number


def clipped(
    optimizer: Callable[..., torch.optim.Optimizer], norm: float
) -> Callable[..., torch.optim.Optimizer]:
    """The optimizer with gradients scaled down to a norm of at most ``norm`` over all its parameters.

    Args:
        optimizer: ``torch.optim.Adam`` or any ``(parameters, lr=) -> torch.optim.Optimizer``.
        norm: of the gradient of the loss per row.

    Source: Pascanu, Mikolov and Bengio (2013), algorithm 1.

    >>> from pyro_lfm import MLP, SVI, Gaussian, Guide, Model, StandardNormal
    >>> model = Model(z=StandardNormal(2), x=Gaussian(4, mean=MLP(8)))
    >>> svi = SVI(Guide(model, z=Gaussian(network=MLP(8))), optimizer=clipped(torch.optim.Adam, 10.0))
    """
    norm = number("norm", norm, least=0.0, above=True)

    def make(parameters: Iterable[Any], lr: float) -> torch.optim.Optimizer:
        made = optimizer(parameters, lr=lr)

        def clip(stepping: torch.optim.Optimizer, *_: Any) -> None:
            every = [p for group in stepping.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(every, norm)

        made.register_step_pre_hook(clip)
        return made

    return make
