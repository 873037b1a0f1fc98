"""Bijections of vectors that networks compute, and the transform that carries a distribution through one.

A bijection is a module: ``forward(value, context, inverse)`` gives the image (..., K) and log |∂f/∂x| (...,) at the
point before f, whichever way it is taken. Values (..., K) and contexts (..., H) broadcast over what stands left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Transform, constraints
from torch.func import functional_call

from pyro_lfm.distributions.spline import inverse_spline, numbers_of, spline


class Through(Transform):
    """y = f(x; context) of a bijection with the tensors that it has now.

    Distributions outlive the call that makes them: where the parameters are replaced during that call (a gradient that holds
    them), the distribution must keep what it was made of. The last point is kept with its image and log |∂f/∂x|, so that the
    density of a distribution's own draw costs nothing more.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, bijection: nn.Module, context: Tensor | None):
        super().__init__(cache_size=1)
        self._bijection, self._context = bijection, context
        self._tensors = {**dict(bijection.named_parameters()), **dict(bijection.named_buffers())}
        self._last: tuple[Any, Any, Any] = (None, None, None)

    def _run(self, value: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        found, slope = functional_call(self._bijection, self._tensors, (value, self._context, inverse))
        self._last = (found, value, slope) if inverse else (value, found, slope)
        return found, slope

    def _call(self, x: Tensor) -> Tensor:
        return self._run(x, False)[0]

    def _inverse(self, y: Tensor) -> Tensor:
        return self._run(y, True)[0]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        before, after, slope = self._last
        return slope if before is x and after is y else self._run(x, False)[1]


class MaskedNetwork(nn.Module):
    """A network (..., K), (..., H) -> (..., K, P) whose k-th row of outputs reads the context and the entries before it.

    One hidden layer and a linear path beside it, both masked. All outputs start at zero.

    Args:
        dim: K. context: H, 0 for none. hidden: units. outputs: P.
        reverse: whether "before" is taken from the last entry on.

    Source: Germain, Gregor, Murray and Larochelle (2015), "MADE: Masked autoencoder for distribution estimation".
    """

    reads_entries: Tensor
    is_read: Tensor
    before: Tensor

    def __init__(self, dim: int, context: int, hidden: int, outputs: int, reverse: bool):
        super().__init__()
        order = torch.arange(dim).flip(0) if reverse else torch.arange(dim)
        # A unit of degree d reads the entries up to the d-th; those of degree −1 read the context alone.
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
    """y_k = f(x_k; a_k), a_k read off x_1 .. x_{k−1} and the context: one pass forwards, K passes back.

    f is x exp(s) + m, with s kept within ±3, or a spline of several bins.

    Args:
        dim, context, hidden, reverse: see ``MaskedNetwork``.
        bins: of the spline; 0 for the affine map.
    """

    def __init__(self, dim: int, context: int, hidden: int, reverse: bool, bins: int = 0):
        super().__init__()
        self.dim, self.bins = dim, bins
        outputs = numbers_of(bins) if bins else 2
        self.network = MaskedNetwork(dim, context, hidden, outputs, reverse)

    def forward(self, value: Tensor, context: Tensor | None, inverse: bool) -> tuple[Tensor, Tensor]:
        if not inverse:
            image, slope = self._entrywise(value, self.network(value, context), False)
            return image, slope.sum(-1)
        # Each pass makes one entry more right, in order; the last one also has the right slopes.
        found, slope = value, torch.zeros_like(value)
        for _ in range(self.dim):
            found, slope = self._entrywise(value, self.network(found, context), True)
        return found, slope.sum(-1)

    def _entrywise(self, value: Tensor, raw: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        if self.bins:
            return inverse_spline(value, raw) if inverse else spline(value, raw)
        slope, shift = 3 * (raw[..., 0] / 3).tanh(), raw[..., 1]
        return ((value - shift) * (-slope).exp() if inverse else value * slope.exp() + shift), slope


class Chain(nn.Module):
    """Bijections one after another."""

    def __init__(self, parts: Sequence[nn.Module]):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, value: Tensor, context: Tensor | None, inverse: bool) -> tuple[Tensor, Tensor]:
        total: Any = 0.0
        for part in reversed(self.parts) if inverse else self.parts:
            value, slope = part(value, context, inverse)
            total = total + slope
        return value, total


class LazyFlow(nn.Module):
    """The inverse of the transform of a zuko flow, which leads from the data to the base.

    Args:
        flow: a module whose ``transform(context)`` is a transform with ``call_and_ladj``, such as zuko's.
    """

    def __init__(self, flow: Any):
        super().__init__()
        self.flow = flow

    def forward(self, value: Tensor, context: Tensor | None, inverse: bool) -> tuple[Tensor, Tensor]:
        to_base = self.flow.transform(context)
        if not inverse:
            return to_base.inv.call_and_ladj(value)
        found, slope = to_base.call_and_ladj(value)
        return found, -slope
