"""Functions whose derivatives are written down beside them: shorter than what automatic differentiation makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Value = Callable[..., Tensor]
Slopes = Callable[..., Sequence[Callable[[], Tensor] | None]]


class _Sloped(torch.autograd.Function):
    """Entry by entry; the slopes are tensor operations themselves, so that they can be differentiated again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Value, slopes: Slopes, *inputs: Tensor) -> Tensor:
        return value(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.slopes = inputs[1]
        ctx.save_for_backward(*inputs[2:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        parts = ctx.slopes(*ctx.saved_tensors)
        wanted = ctx.needs_input_grad[2:]
        found = [
            gradients[0] * slope() if wants and slope is not None else None
            for slope, wants in zip(parts, wanted, strict=True)
        ]
        return None, None, *found


def sloped(value: Value, slopes: Slopes, *inputs: Tensor) -> Tensor:
    """value(*inputs), entry by entry.

    Args:
        slopes: of the same inputs, what gives the derivative by each, or None where it is not needed.

    >>> x = torch.tensor(3.0, requires_grad=True)
    >>> y = sloped(torch.square, lambda x: [lambda: 2 * x], x)
    >>> torch.autograd.grad(y, x)
    (tensor(6.),)
    """
    return _Sloped.apply(value, slopes, *torch.broadcast_tensors(*inputs))  # type: ignore[no-untyped-call, no-any-return]
