"""Functions with explicit derivatives, which are shorter than those of autograd; densities of counts use them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

Function = Callable[..., Tensor]
# One callable for each input; None where no derivative is needed.
Derivatives = Callable[..., Sequence[Callable[[], Tensor] | None]]


class _WithDerivatives(torch.autograd.Function):
    """The derivatives are tensor operations themselves, so they can be differentiated again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(function: Function, derivatives: Derivatives, *inputs: Tensor) -> Tensor:
        return function(*inputs)

    @staticmethod
    def setup_context(
        ctx: FunctionCtx, inputs: tuple[Function, Derivatives, *tuple[Tensor, ...]], output: Tensor
    ) -> None:
        ctx.derivatives = inputs[1]  # type: ignore[attr-defined]
        ctx.save_for_backward(*inputs[2:])

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        derivatives = ctx.derivatives(*ctx.saved_tensors)  # type: ignore[attr-defined]
        wanted = ctx.needs_input_grad[2:]  # type: ignore[attr-defined]
        products = [
            gradients[0] * derivative() if wants and derivative is not None else None
            for derivative, wants in zip(derivatives, wanted, strict=True)
        ]
        return None, None, *products


def with_derivatives(function: Function, derivatives: Derivatives, *inputs: Tensor) -> Tensor:
    """function(*inputs), entry by entry, with derivatives that autograd takes from ``derivatives``.

    Args:
        derivatives: called with the inputs; returns for each a callable that computes ∂function/∂input, or None.

    >>> x = torch.tensor(3.0, requires_grad=True)
    >>> y = with_derivatives(torch.square, lambda x: [lambda: 2 * x], x)
    >>> torch.autograd.grad(y, x)
    (tensor(6.),)
    """
    return _WithDerivatives.apply(function, derivatives, *torch.broadcast_tensors(*inputs))  # type: ignore[no-untyped-call, no-any-return]
