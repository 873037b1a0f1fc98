"""Quasi-Newton proposals from the gradients at points that another ascent visits; EM is accelerated by them."""

from __future__ import annotations

from torch import Tensor


class QuasiNewton:
    """Proposes the maximum of a smooth function from its last points and gradients (L-BFGS; Nocedal, 1980).

    The proposal may overshoot, so the caller compares the function there.

    >>> import torch
    >>> propose = QuasiNewton(window=2)
    >>> propose(torch.tensor([0.0]), torch.tensor([2.0]))  # of −x² + 2x
    >>> propose(torch.tensor([3.0]), torch.tensor([-4.0]))
    tensor([1.])
    """

    def __init__(self, window: int = 10):
        self.window = window
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._last: tuple[Tensor, Tensor] | None = None

    def __call__(self, point: Tensor, gradient: Tensor) -> Tensor | None:
        """The proposal after one more point; None until two points have shown the curvature."""
        if self._last is not None:
            step, change = point - self._last[0], self._last[1] - gradient
            # Only directions of negative curvature lead to a maximum.
            if float(step @ change) > 1e-10 * float(step.norm() * change.norm()):
                self._pairs = [*self._pairs, (step, change)][-self.window :]
        self._last = (point, gradient)
        if not self._pairs:
            return None
        direction, shares = gradient, []
        for step, change in reversed(self._pairs):
            share = (step @ direction) / (step @ change)
            direction = direction - share * change
            shares.append(share)
        step, change = self._pairs[-1]
        direction = direction * (step @ change) / (change @ change)
        for (step, change), share in zip(self._pairs, reversed(shares), strict=True):
            direction = direction + (share - (change @ direction) / (step @ change)) * step
        return point + direction
