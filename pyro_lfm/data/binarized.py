"""``Binarized``: grey values whose entries are drawn as 0 or 1 anew at every reading, for training."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_lfm.errors import DataError, ShapeError


class Binarized:
    """Rows of 0 and 1, drawn from grey values at every reading: an entry is 1 with the probability of its grey.

    This is dynamic binarization (Salakhutdinov and Murray 2008). The draws are a function of the seed and of the rows that
    are read together, in their order. A fit reads its batches in another order in each epoch, so that each epoch has other
    draws. A fit with the same seed repeats them, also where it goes on from a checkpoint. Under several processes the draws
    depend on the number of processes.

    Args:
        greys: (N, D) in [0, 1], float32, such as ``lfm.data.fashion_mnist().x``.
        seed: of the draws.

    Raises:
        ShapeError: greys are not a matrix. DataError: a grey outside [0, 1].

    >>> rows = Binarized(torch.tensor([[0.0, 1.0, 0.5], [1.0, 0.5, 0.5]]), seed=0)
    >>> rows.shape, rows.read(torch.tensor([1, 0]))
    (torch.Size([2, 3]), tensor([[1., 0., 0.],
            [0., 1., 1.]]))
    """

    def __init__(self, greys: Tensor, seed: int = 0):
        self.greys, self.seed = torch.as_tensor(greys, dtype=torch.float32), seed
        if self.greys.dim() != 2:
            raise ShapeError(
                f"greys must have shape (N, D); got {tuple(self.greys.shape)}: flatten each row, as greys.flatten(1) does"
            )
        if not bool(((self.greys >= 0) & (self.greys <= 1)).all()):
            low, high = float(self.greys.min()), float(self.greys.max())
            raise DataError(
                f"greys must lie in [0, 1]; got {low:g} to {high:g}: divide pixels 0..255 by 255, and leave out rows with "
                "missing entries"
            )

    @property
    def shape(self) -> torch.Size:
        return self.greys.shape

    def __len__(self) -> int:
        return len(self.greys)

    def read(self, index: Tensor) -> Tensor:
        """The rows at indices (B,), drawn: (B, D).

        Indices in another order get other draws.
        """
        # A polynomial in an odd number, modulo 2⁶⁴: the order of the indices counts.
        powers = torch.full((len(index),), 6364136223846793005).cumprod(0)
        mixed = int((index.to(powers) + 1).mul(powers).sum()) + 1_000_003 * self.seed
        generator = torch.Generator().manual_seed(mixed % 2**63)
        return torch.bernoulli(self.greys[index], generator=generator)
