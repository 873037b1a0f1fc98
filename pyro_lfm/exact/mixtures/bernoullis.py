"""Bernoulli components of mixtures: independent binary entries."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.exact.mixtures.ascent import Statistics, float64
from pyro_lfm.exact.mixtures.mixture import EMPTY, Components


def binary_counts(x: Tensor, responsibilities: Tensor) -> tuple[Tensor, Tensor]:
    """The weighted numbers of ones and of zeros, Σ r x and Σ r (1 − x) over the observed entries, each (C, D)."""
    return responsibilities.T @ x.nan_to_num(), responsibilities.T @ (1 - x).nan_to_num()


def check_binary(x: Tensor) -> None:
    """Raises DataError unless all entries are 0, 1 or missing."""
    if not ((x == 0) | (x == 1) | x.isnan()).all():
        raise DataError("x must be 0 or 1, or NaN where missing: binarize it, as x > 0.5 does")


@dataclass(frozen=True, eq=False)
class Bernoullis(Components):
    """p(x | c) = Π_d p_cd^x_d (1 − p_cd)^(1 − x_d), x_d 0 or 1.

    Args:
        probs: p (C, D), strictly between 0 and 1.
        min_prob: fits keep p within [min_prob, 1 − min_prob], so that no row is impossible.

    Raises:
        ShapeError: probs is no matrix. DeclarationError: a probability or the floor is out of range.

    Source: Bishop (2006), section 9.3.3.

    >>> Bernoullis(torch.tensor([[0.5, 0.25]])).log_density(torch.tensor([[1.0, 0.0]]).double()).exp()
    tensor([[0.3750]], dtype=torch.float64)
    """

    probs: Tensor
    min_prob: float = 1e-6
    names: ClassVar[tuple[str, ...]] = ("probs",)

    def __post_init__(self) -> None:
        if not 0 < self.min_prob < 0.5:
            raise DeclarationError(f"min_prob must lie between 0 and 0.5; got {self.min_prob!r}")
        probs = float64("probs", self.probs, "C", "D")
        if not ((probs > 0) & (probs < 1)).all():
            raise DeclarationError("probs must lie strictly between 0 and 1")
        object.__setattr__(self, "probs", probs)

    @property
    def size(self) -> tuple[int, int]:
        return self.probs.shape[0], self.probs.shape[1]

    @property
    def logits(self) -> Tensor:
        """ln p − ln(1 − p), (C, D)."""
        return self.probs.logit()

    def log_density(self, x: Tensor) -> Tensor:
        check_binary(x)
        return x.nan_to_num() @ self.probs.log().T + (1 - x).nan_to_num() @ (-self.probs).log1p().T

    def statistics(self, x: Tensor, responsibilities: Tensor) -> Statistics:
        return binary_counts(x, responsibilities)

    def maximised(self, statistics: Statistics, fixed: Set[str]) -> Bernoullis:
        ones, zeros = statistics
        counts = ones + zeros
        if "probs" in fixed:
            return self
        # n₁ ln p + n₀ ln(1 − p) is concave in p: the clamped maximiser is the best in the allowed interval.
        best = (ones / counts.clamp_min(EMPTY)).clamp(self.min_prob, 1 - self.min_prob)
        return replace(self, probs=torch.where(counts > EMPTY, best, self.probs))

    def expected_log_density(self, statistics: Statistics, at: Components) -> Tensor:
        assert isinstance(at, Bernoullis)
        ones, zeros = statistics
        return (ones * at.probs.log() + zeros * (-at.probs).log1p()).sum()

    def filled(self, x: Tensor, responsibilities: Tensor) -> Tensor:
        return torch.where(x.isnan(), responsibilities @ self.probs, x)

    def above_floor(self) -> Bernoullis:
        return replace(self, probs=self.probs.clamp(self.min_prob, 1 - self.min_prob))

    def at_floor(self) -> int:
        return int(((self.probs <= self.min_prob) | (self.probs >= 1 - self.min_prob)).sum())
