"""Bijections of vectors whose parameters networks compute, and their torch transform; the flows are made of them.

A bijection is a module: ``forward(value, context, inverse)`` returns f(value) or f⁻¹(value), (..., K), and
log |∂f/∂x| (...,). The derivative is always that of f, at f's argument. The batch dimensions of values (..., K) and
contexts (..., H) broadcast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Transform, constraints
from torch.func import functional_call

from pyro_lfm.distributions.spline import inverse_spline, spline, spline_size


class ZukoTransform(Protocol):
    """A transform that gives its value and log |∂f/∂x| in one call, as those of zuko do."""

    @property
    def inv(self) -> ZukoTransform: ...

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]: ...


class BijectionTransform(Transform):
    """y = f(x; context) for a bijection f, with the parameters that f has when the transform is made.

    A distribution may outlive the call that makes it. If the bijection's parameters are replaced during that call, as
    ``functional_call`` does, the transform keeps those that it was made with.

    The last point, its image and log |∂f/∂x| are kept: the density of a distribution's own draw costs nothing more.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, bijection: nn.Module, context: Tensor | None):
        super().__init__(cache_size=1)
        self._bijection, self._context = bijection, context
        self._tensors = {**dict(bijection.named_parameters()), **dict(bijection.named_buffers())}
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    def _run(self, value: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        image, slope = functional_call(self._bijection, self._tensors, (value, self._context, inverse))
        self._last = (image, value, slope) if inverse else (value, image, slope)
        return image, slope

    def _call(self, x: Tensor) -> Tensor:
        return self._run(x, False)[0]

    def _inverse(self, y: Tensor) -> Tensor:
        return self._run(y, True)[0]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        if self._last is not None and self._last[0] is x and self._last[1] is y:
            return self._last[2]
        return self._run(x, False)[1]


class MaskedNetwork(nn.Module):
    """An autoregressive network (..., K), (..., H) -> (..., K, P): row k reads the context and the entries before k.

    It has one hidden layer and a linear path beside it, both masked. All outputs start at zero.

    Args:
        dim: K. context: H, 0 for none. hidden: units. outputs: P.
        reverse: whether the order of the entries starts at the last one.

    Source: Germain, Gregor, Murray and Larochelle (2015), "MADE: Masked autoencoder for distribution estimation".
    """

    reads_entries: Tensor
    is_read: Tensor
    before: Tensor

    def __init__(self, dim: int, context: int, hidden: int, outputs: int, reverse: bool):
        super().__init__()
        order = torch.arange(dim).flip(0) if reverse else torch.arange(dim)
        # A hidden unit of degree d reads the entries up to the d-th. Units of degree −1 read the context alone.
        degree = torch.arange(hidden) % dim - 1
        rows = order.repeat_interleave(outputs)
        self.outputs = outputs
        self.entries, self.skip = nn.Linear(dim, hidden), nn.Linear(dim, dim * outputs, bias=False)
        self.out = nn.Linear(hidden, dim * outputs)
        self.context = nn.Linear(context, hidden, bias=False) if context else None
        self.context_skip = nn.Linear(context, dim * outputs, bias=False) if context else None
        self.register_buffer("reads_entries", degree[:, None] >= order)
        self.register_buffer("is_read", rows[:, None] > degree)
        self.register_buffer("before", rows[:, None] > order)
        for last in (self.skip, self.out, self.context_skip):
            for parameter in last.parameters() if last is not None else ():
                nn.init.zeros_(parameter)

    def forward(self, value: Tensor, context: Tensor | None) -> Tensor:
        linear = nn.functional.linear
        hidden = linear(value, self.entries.weight * self.reads_entries, self.entries.bias)
        skipped = linear(value, self.skip.weight * self.before)
        if self.context is not None and self.context_skip is not None and context is not None:
            hidden, skipped = hidden + self.context(context), skipped + self.context_skip(context)
        out = linear(hidden.tanh(), self.out.weight * self.is_read, self.out.bias) + skipped
        return out.unflatten(-1, (-1, self.outputs))


class Autoregressive(nn.Module):
    """y_k = f(x_k; a_k), where a network computes a_k from x_1 .. x_{k−1} and the context.

    f is x exp(s) + m with |s| < 3, or a rational-quadratic spline. f takes one pass of the network, f⁻¹ takes K.

    Args:
        dim, context, hidden, reverse: see ``MaskedNetwork``.
        bins: the bins of the spline, 0 for the affine map.
    """

    def __init__(self, dim: int, context: int, hidden: int, reverse: bool, bins: int = 0):
        super().__init__()
        self.dim, self.bins = dim, bins
        outputs = spline_size(bins) if bins else 2
        self.network = MaskedNetwork(dim, context, hidden, outputs, reverse)

    def forward(self, value: Tensor, context: Tensor | None, inverse: bool) -> tuple[Tensor, Tensor]:
        if not inverse:
            image, slope = self._entrywise(value, self.network(value, context), False)
            return image, slope.sum(-1)
        # The k-th pass makes the k-th entry exact. The last pass gives the exact slopes.
        preimage, slope = value, torch.zeros_like(value)
        for _ in range(self.dim):
            preimage, slope = self._entrywise(value, self.network(preimage, context), True)
        return preimage, slope.sum(-1)

    def _entrywise(self, value: Tensor, raw: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        if self.bins:
            return inverse_spline(value, raw) if inverse else spline(value, raw)
        slope, shift = 3 * (raw[..., 0] / 3).tanh(), raw[..., 1]
        return ((value - shift) * (-slope).exp() if inverse else value * slope.exp() + shift), slope


class Chain(nn.Module):
    """The composition of bijections, the first one applied first."""

    def __init__(self, parts: Sequence[nn.Module]):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, value: Tensor, context: Tensor | None, inverse: bool) -> tuple[Tensor, Tensor]:
        total = value.new_zeros(())
        for part in reversed(self.parts) if inverse else self.parts:
            value, slope = part(value, context, inverse)
            total = total + slope
        return value, total


class LazyFlow(nn.Module):
    """The bijection of a zuko flow, from the base to the data: the inverse of the flow's own transform.

    Args:
        flow: a module whose ``transform(context)`` is a transform with ``call_and_ladj``, such as zuko's.
    """

    def __init__(self, flow: nn.Module):
        super().__init__()
        self.flow = flow

    def _to_base(self, context: Tensor | None) -> ZukoTransform:
        return self.flow.transform(context)  # type: ignore[operator]

    def forward(self, value: Tensor, context: Tensor | None, inverse: bool) -> tuple[Tensor, Tensor]:
        to_base = self._to_base(context)
        if not inverse:
            return to_base.inv.call_and_ladj(value)
        base, slope = to_base.call_and_ladj(value)
        return base, -slope
