"""Small networks, one for each attribute and fold, evaluated together; a reader is their mean over the folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import silu

_HIDDEN = 32


@dataclass(frozen=True, eq=False)
class Networks:
    """f(u) = u A + b + silu(silu(u B₁ + c₁) B₂ + c₂) B₃ for each of A attributes and F folds, (A, F, B, W).

    Attributes:
        linear: A, (A, F, U, W). bias: b, (A, F, 1, W). hidden: B₁, c₁, B₂, c₂, B₃; all zero in B₃ at first.
    """

    linear: Tensor
    bias: Tensor
    hidden: tuple[Tensor, ...]

    @classmethod
    def of(cls, linear: Tensor, bias: Tensor, generator: torch.Generator) -> Networks:
        """Networks that are linear at first."""
        attributes, folds, size, outputs = linear.shape

        def weight(rows: int) -> Tensor:
            noise = torch.randn(attributes, folds, rows, _HIDDEN, generator=generator, dtype=linear.dtype)
            return noise / rows**0.5

        def zeros(rows: int, columns: int) -> Tensor:
            return torch.zeros(attributes, folds, rows, columns, dtype=linear.dtype)

        hidden = (
            weight(size), zeros(1, _HIDDEN), weight(_HIDDEN), zeros(1, _HIDDEN), zeros(_HIDDEN, outputs),
        )  # fmt: skip
        return cls(linear, bias, hidden)

    def __call__(self, codes: Tensor) -> Tensor:
        """f of codes (A, F, B, U), broadcast over attributes and folds."""
        first, first_bias, second, second_bias, last = self.hidden
        inner = silu(silu(codes @ first + first_bias) @ second + second_bias)
        return codes @ self.linear + self.bias + inner @ last

    def mean(self, codes: Tensor) -> Tensor:
        """The mean over folds, (A, B, W), at codes (A, B, U)."""
        return self(codes.unsqueeze(1)).mean(1)

    def of_attributes(self, places: Sequence[int]) -> Networks:
        """The networks of some attributes."""
        index = torch.tensor(places, dtype=torch.long)
        return Networks(self.linear[index], self.bias[index], tuple(part[index] for part in self.hidden))

    def of_fold(self, fold: int) -> Networks:
        """The networks of one fold."""
        part = slice(fold, fold + 1)
        return Networks(self.linear[:, part], self.bias[:, part], tuple(p[:, part] for p in self.hidden))

    def with_hidden(self, hidden: Sequence[Tensor]) -> Networks:
        return replace(self, hidden=tuple(hidden))

    def double(self) -> Networks:
        return Networks(self.linear.double(), self.bias.double(), tuple(p.double() for p in self.hidden))
