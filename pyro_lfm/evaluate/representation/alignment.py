"""Whether two representations hold the same factors, up to order and sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pyro_lfm.errors import ShapeError
from pyro_lfm.evaluate.representation.codes import codes_of, standardised


@dataclass(frozen=True, eq=False)
class Alignment:
    """A one-to-one matching of the codes of a with those of b, M = min(K_a, K_b) of them.

    Attributes:
        correlation: r of each code of a with each of b, (K_a, K_b).
        first, second: code ``first[m]`` of a is matched with ``second[m]`` of b, (M,).
        signs: ±1, (M,), of their correlations.
    """

    correlation: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    signs: torch.Tensor

    @property
    def matched(self) -> torch.Tensor:
        """|r| of each pair, (M,)."""
        return self.correlation[self.first, self.second].abs()

    @property
    def mean(self) -> float:
        """Of |r| over pairs: 1 for the same factors."""
        return float(self.matched.mean())

    def apply(self, codes_b: torch.Tensor) -> torch.Tensor:
        """Codes of b, (N, K_b), in the order and with the signs of those of a that they are matched with, (N, M)."""
        return codes_b[:, self.second] * self.signs.to(codes_b)

    def __str__(self) -> str:
        rows = zip(self.first.tolist(), self.second.tolist(), self.signs.tolist(), self.matched, strict=True)
        pairs = [f"{a:>4} {'+' if sign > 0 else '-'}{b:<4} {float(r):.3f}" for a, b, sign, r in rows]
        return "\n".join(["   a  b    |r|", *pairs, f"     mean  {self.mean:.3f}"])


def align(codes_a: Any, codes_b: Any, data: Any = None) -> Alignment:
    """Are the factors of two fits the same? The one-to-one matching of codes with the largest Σ |r|.

    Correlations are over rows, so that the scale of a code does not count; that of a constant code is 0. Independent
    codes do not have mean 0: |r| of noise is about √(2 / πN), and the matching takes the largest.

    Args:
        codes_a, codes_b: (N, K_a) and (N, K_b), of the same rows; or each a ``Fit``, whose posterior means
            are taken, of all latents of a row side by side; of a label the probability of each category.
        data: rows as given to ``fit``, where both are fits; left out, those that each was fitted to.

    Raises:
        ShapeError: not a matrix each, with the same number of rows, at least two.
        DeclarationError: a ``Fit`` whose rows have no latents, or whose posterior has no means.

    Source: Kuhn (1955) for the matching; Hyvärinen and Morioka (2016) for its use as mean correlation coefficient.

    >>> a = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    >>> found = align(a, torch.stack([-a[:, 1], 3 * a[:, 0]], 1))
    >>> found.second.tolist(), found.signs.tolist(), round(found.mean, 6)
    ([1, 0], [1, -1], 1.0)
    """
    from scipy.optimize import linear_sum_assignment

    a, b = codes_of("codes_a", codes_a, data), codes_of("codes_b", codes_b, data)
    if len(a) != len(b) or len(a) < 2:
        raise ShapeError(
            f"codes_a and codes_b must be of the same rows, at least two; got {len(a)} and {len(b)}"
        )
    correlation = (standardised(a).T @ standardised(b) / len(a)).clip(-1, 1)
    first, second = linear_sum_assignment(-np.abs(correlation))
    signs = np.where(correlation[first, second] < 0, -1, 1)
    return Alignment(*(torch.from_numpy(found) for found in (correlation, first, second, signs)))
