"""Anderson acceleration of a fixed-point iteration."""

from __future__ import annotations

import torch
from torch import Tensor


class Anderson:
    """Guesses the fixed point of θ ← F(θ) from the last few pairs (θ, F(θ)).

    The guess is F(θ) − ΔF γ, where γ makes the residual F(θ) − θ least after the same combination of its recent
    differences (Anderson, 1965; for EM: Henderson and Varadhan, 2019). It may be worse than F(θ): whoever uses it
    compares, and calls ``forget`` when it was.

    >>> guess = Anderson(window=2)
    >>> _ = guess(torch.tensor([0.0]), torch.tensor([1.0]))
    >>> guess(torch.tensor([1.0]), torch.tensor([1.5]))  # F(θ) = 1 + θ/2
    tensor([2.])
    """

    def __init__(self, window: int = 10):
        self.window = window
        self._residuals: list[Tensor] = []
        self._images: list[Tensor] = []

    def __call__(self, point: Tensor, image: Tensor) -> Tensor | None:
        """The guess given one more pair; None until there are two."""
        self._residuals = [*self._residuals, image - point][-self.window - 1 :]
        self._images = [*self._images, image][-self.window - 1 :]
        if len(self._images) < 2:
            return None
        residuals, images = torch.stack(self._residuals, 1), torch.stack(self._images, 1)
        steps, moves = residuals.diff(dim=1), images.diff(dim=1)
        gram = steps.mT @ steps
        scale = gram.diagonal().clamp(min=1e-300).sqrt()
        values, vectors = torch.linalg.eigh(gram / scale / scale.unsqueeze(1))
        right = vectors.mT @ ((steps.mT @ residuals[:, -1]) / scale)
        # Directions that the history does not resolve are left out.
        known = values > 1e-12 * values.max()
        weights = (vectors[:, known] @ (right[known] / values[known])) / scale
        return image - moves @ weights

    def forget(self) -> None:
        """Drops the history."""
        self._residuals, self._images = [], []
