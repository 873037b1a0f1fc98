"""Steps of a quasi-Newton ascent, from gradients at the points that some other ascent visits."""

from __future__ import annotations

from torch import Tensor


class QuasiNewton:
    """Guesses the maximum of a smooth function from its last few points and gradients (L-BFGS; Nocedal, 1980).

    The points may have been reached in any way, so the guess may be too far: whoever uses it compares.

    >>> import torch
    >>> guess = QuasiNewton(window=2)
    >>> guess(torch.tensor([0.0]), torch.tensor([2.0]))  # of −x² + 2x
    >>> guess(torch.tensor([3.0]), torch.tensor([-4.0]))
    tensor([1.])
    """

    def __init__(self, window: int = 10):
        self.window = window
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._last: tuple[Tensor, Tensor] | None = None

    def __call__(self, point: Tensor, gradient: Tensor) -> Tensor | None:
        """The guess given one more point; None until two have shown how the gradient bends."""
        if self._last is not None:
            step, bend = point - self._last[0], self._last[1] - gradient
            # Only along directions where the function bends down is there a maximum to aim at.
            if float(step @ bend) > 1e-10 * float(step.norm() * bend.norm()):
                self._pairs = [*self._pairs, (step, bend)][-self.window :]
        self._last = (point, gradient)
        if not self._pairs:
            return None
        direction, shares = gradient, []
        for step, bend in reversed(self._pairs):
            share = (step @ direction) / (step @ bend)
            direction = direction - share * bend
            shares.append(share)
        step, bend = self._pairs[-1]
        direction = direction * (step @ bend) / (bend @ bend)
        for (step, bend), share in zip(self._pairs, reversed(shares), strict=True):
            direction = direction + (share - (bend @ direction) / (step @ bend)) * step
        return point + direction
