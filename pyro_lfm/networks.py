"""Sources: where the parameters of a factor come from.

A source has ``build(in_size, out_size) -> nn.Module``; the built module maps a context of shape
(B, in_size) to parameters of shape (B, out_size). A source that reads no context is a constant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pyro_lfm.errors import DeclarationError, ShapeError

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
}


class Constant(nn.Module):
    """A parameter that depends on nothing: learned (θ) or fixed."""

    def __init__(self, value: torch.Tensor, learned: bool):
        super().__init__()
        if learned:
            self.value = nn.Parameter(value)
        else:
            self.register_buffer("value", value)

    def forward(self, context: torch.Tensor | None) -> torch.Tensor:
        return self.value


class Flattened(nn.Module):
    """Runs a module over any batch shape, so that layers written for (B, in) serve draws × rows as well."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, context: torch.Tensor) -> torch.Tensor:
        output = self.module(context.reshape(-1, context.shape[-1]))
        return output.reshape(*context.shape[:-1], -1)


class MLP:
    """A multilayer perceptron: hidden widths, then a linear output.

    >>> MLP(16, activation="tanh").build(2, 3)(torch.zeros(5, 2)).shape
    torch.Size([5, 3])
    """

    def __init__(self, *hidden: int, activation: str = "relu"):
        if activation not in ACTIVATIONS:
            raise DeclarationError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {activation!r}")
        self.hidden, self.activation = hidden, activation

    def build(self, in_size: int, out_size: int) -> nn.Module:
        layers: list[nn.Module] = []
        for width in self.hidden:
            layers += [nn.Linear(in_size, width), ACTIVATIONS[self.activation]()]
            in_size = width
        return nn.Sequential(*layers, nn.Linear(in_size, out_size))

    def __repr__(self) -> str:
        return f"MLP({', '.join(map(str, self.hidden))})"


class Affine(nn.Module):
    """x ↦ x Wᵀ + b, with W (out, in) and b (out,) each a constant, learned or fixed."""

    def __init__(self, weight: nn.Module, bias: nn.Module):
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, context: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(context, self.weight(None), self.bias(None))


@dataclass(frozen=True)
class Linear:
    """An affine map of the parents; ``weight`` and ``bias`` may be ``Fixed`` or ``Learned`` values.

    >>> Linear(weight=Fixed(torch.ones(3, 2)), bias=Fixed(0.0)).build(2, 3)(torch.ones(1, 2))
    tensor([[2., 2., 2.]])
    """

    weight: Fixed | Learned | None = None
    bias: Fixed | Learned | None = None

    def build(self, in_size: int, out_size: int) -> nn.Module:
        start = nn.Linear(in_size, out_size)
        weight = self.weight or Learned(start.weight.detach().clone())
        bias = self.bias or Learned(torch.zeros(out_size))
        return Affine(weight.constant((out_size, in_size)), bias.constant((out_size,)))


def _as_float(value: Any) -> torch.Tensor:
    """A tensor keeps its floating type; numbers and arrays take torch's default."""
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.detach().clone()
    return torch.as_tensor(value, dtype=torch.get_default_dtype()).clone()


@dataclass(frozen=True)
class Learned:
    """A free parameter θ, the same for all rows, starting at ``init`` (zero if None).

    For a covariance, ``init`` is in its natural unit: variances, or the matrix.
    """

    init: Any = None

    learned = True

    def value(self) -> torch.Tensor | None:
        return None if self.init is None else _as_float(self.init)

    def constant(self, shape: tuple[int, ...]) -> Constant:
        value = self.value()
        start = torch.zeros(shape) if value is None else value
        try:
            return Constant(start.expand(shape).clone(), self.learned)
        except RuntimeError:
            raise ShapeError(f"value must broadcast to shape {shape}; got {tuple(start.shape)}") from None


class Fixed(Learned):
    """A value that is never trained. For a covariance: variances, or the matrix."""

    learned = False

    def __init__(self, value: Any):
        super().__init__(value)


Source = MLP | Linear | Learned | Fixed | nn.Module | Callable[[int, int], nn.Module]


def reads_context(source: Any) -> bool:
    return source is not None and not isinstance(source, Learned)


def build(source: Any, in_size: int, out_size: int, what: str) -> nn.Module:
    """The module of a source, its output size checked by a trial on two rows of zeros."""
    if source is None or isinstance(source, Learned):
        return (source or Learned()).constant((out_size,))
    if in_size == 0:
        raise DeclarationError(f"{what} is a network but has no parents: name them in given=")
    if isinstance(source, nn.Module):
        module = source
    else:
        module = source.build(in_size, out_size) if hasattr(source, "build") else source(in_size, out_size)
    parameter = next(module.parameters(), torch.empty(0))
    modes = {child: child.training for child in module.modules()}
    try:
        with torch.no_grad():
            output = module.eval()(torch.zeros(2, in_size, dtype=parameter.dtype, device=parameter.device))
    except RuntimeError as error:
        raise ShapeError(f"{what} must take input of size {in_size}; it failed: {error}") from error
    finally:
        for child, mode in modes.items():
            child.training = mode
    if output.reshape(2, -1).shape[1] != out_size:
        raise ShapeError(f"{what} must give output of size {out_size}; got {tuple(output.shape[1:])}")
    return Flattened(module)
