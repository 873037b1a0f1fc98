"""The patterns of missing entries among rows. Exact inference of linear models and of mixtures shares work by pattern."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Patterns(NamedTuple):
    """The distinct patterns of observed entries, (P, D), and the number of each row's pattern, (B,)."""

    observed: Tensor
    own: Tensor


# The columns that fit in the bits of an int64.
_BITS = 62


def patterns(x: Tensor) -> Patterns:
    """The patterns of rows (B, D), NaN where missing, in the order of ``torch.unique``.

    Up to 62 columns are packed into the bits of a number, whose distinct values are computed fast.

    >>> patterns(torch.tensor([[1.0, float("nan")], [2.0, 3.0], [4.0, 5.0]]))
    Patterns(observed=tensor([[ True, False],
            [ True,  True]]), own=tensor([0, 1, 1]))
    """
    seen = ~x.isnan()
    if bool(seen.all()):
        return Patterns(torch.ones_like(seen[:1]), torch.zeros(len(x), dtype=torch.long))
    if x.shape[1] > _BITS:
        return Patterns(*torch.unique(seen, dim=0, return_inverse=True))
    bits = torch.arange(x.shape[1] - 1, -1, -1)
    codes, own = torch.unique((seen.long() << bits).sum(1), return_inverse=True)
    return Patterns((codes.unsqueeze(1) >> bits & 1).bool(), own)
