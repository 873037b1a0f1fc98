"""Matching of the codes of two representations: do they hold the same factors, up to order and sign?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pyro_lfm.errors import ShapeError
from pyro_lfm.evaluate.inputs import Array
from pyro_lfm.evaluate.representation.codes import codes_of, standardised


@dataclass(frozen=True, eq=False)
class Alignment:
    """A one-to-one matching of the codes of a and b, M = min(K_a, K_b) pairs.

    Attributes:
        correlation: r of each code of a with each of b, (K_a, K_b).
        first, second: code ``first[m]`` of a is matched with ``second[m]`` of b, (M,).
        signs: the signs ±1 of their correlations, (M,).

    >>> import torch
    >>> import pyro_lfm as lfm
    >>> codes = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    >>> matching = lfm.evaluate.representation.align_codes(codes, -codes.flip(1))
    >>> matching.first.tolist(), matching.second.tolist(), matching.signs.tolist()
    ([0, 1], [1, 0], [-1, -1])
    """

    correlation: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    signs: torch.Tensor

    @property
    def matched(self) -> torch.Tensor:
        """``|r|`` of each pair, (M,)."""
        return self.correlation[self.first, self.second].abs()

    @property
    def mean(self) -> float:
        """The mean of ``|r|`` over pairs: 1 for the same factors."""
        return float(self.matched.mean())

    def apply(self, codes_b: torch.Tensor) -> torch.Tensor:
        """Codes of b, (N, K_b), in the order and with the signs of their partners in a, (N, M)."""
        return codes_b[:, self.second] * self.signs.to(codes_b)

    def __str__(self) -> str:
        rows = zip(self.first.tolist(), self.second.tolist(), self.signs.tolist(), self.matched, strict=True)
        pairs = [f"{a:>4} {'+' if sign > 0 else '-'}{b:<4} {float(r):.3f}" for a, b, sign, r in rows]
        return "\n".join(["   a  b    |r|", *pairs, f"     mean  {self.mean:.3f}"])


def align_codes(codes_a: Array, codes_b: Array) -> Alignment:
    """Are the factors of two representations the same? The one-to-one matching of codes with the largest ``Σ |r|``.

    Correlations are over rows, so the scale of a code does not matter. The correlation of a constant code is 0. The mean of
    ``|r|`` is not 0 for independent codes: ``|r|`` of noise is about √(2 / πN), and the matching takes the largest. For the
    codes of two fits see ``lfm.evaluate.align``.

    Args:
        codes_a, codes_b: (N, K_a) and (N, K_b), of the same rows.

    Raises:
        ShapeError: an argument that is no matrix, or different numbers of rows, or fewer than two.
        DataError: codes that are not finite.

    Source: Kuhn (1955) for the matching; Hyvärinen and Morioka (2016) for its use as mean correlation coefficient.

    >>> a = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    >>> matched = align_codes(a, torch.stack([-a[:, 1], 3 * a[:, 0]], 1))
    >>> matched.second.tolist(), matched.signs.tolist(), round(matched.mean, 6)
    ([1, 0], [1, -1], 1.0)
    """
    from scipy.optimize import linear_sum_assignment

    a, b = codes_of("codes_a", codes_a), codes_of("codes_b", codes_b)
    if len(a) != len(b) or len(a) < 2:
        raise ShapeError(
            f"codes_a and codes_b must be of the same rows, at least two; got {len(a)} and {len(b)}"
        )
    correlation = (standardised(a).T @ standardised(b) / len(a)).clip(-1, 1)
    first, second = linear_sum_assignment(-np.abs(correlation))
    signs = np.where(correlation[first, second] < 0, -1, 1)
    return Alignment(*(torch.from_numpy(array) for array in (correlation, first, second, signs)))
