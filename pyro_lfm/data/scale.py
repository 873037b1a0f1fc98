"""Location and spread of each column, computed block by block while rows are validated."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_lfm.data.schema import Scale

# The number of roundings in double precision that may add up in one number, such as a sum of shares that is 1.
_ROUNDINGS = 64


class Moments:
    """Mean, standard deviation and largest absolute value of the observed entries of D columns.

    Differences from the first number of each column are averaged. So a constant column has no spread, and the spread of
    whole numbers that no float holds is not lost.

    >>> moments = Moments()
    >>> _ = moments.add(torch.tensor([[1.0, float("nan")], [3.0, 5.0]]))
    >>> moments.scale.mean, moments.scale.spread
    (tensor([2., 5.], dtype=torch.float64), tensor([1., 0.], dtype=torch.float64))
    """

    def __init__(self) -> None:
        self.count: Tensor | None = None
        self.step = 0.0
        self.blocks = self.rows = 0

    def add(self, rows: Tensor, weights: Tensor | None = None) -> bool:
        """Adds rows (B, ...) in their own type, NaN where missing, each as often as its weight, (B,), says.

        Returns:
            True where all entries are known to be finite numbers, of floats without weights.
        """
        if weights is not None:
            weights = weights.to(rows.device)
            rows, weights = rows[weights > 0], weights[weights > 0]
            if not len(rows):
                return False
        rows = rows.flatten(1) if rows.dim() > 1 else rows.unsqueeze(1)
        whole = not rows.is_floating_point()
        self.step = max(self.step, 0.0 if whole else torch.finfo(rows.dtype).eps)
        rows = rows.to(torch.int64 if whole else torch.float64)
        if self.count is None:
            self.count = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
            self.mean, self.squares = torch.zeros_like(self.count), torch.zeros_like(self.count)
            self.largest = torch.zeros_like(self.count)
            self.between = torch.zeros_like(self.count)
            self.first = rows.new_zeros(1, rows.shape[1])
        self.blocks, self.rows = self.blocks + 1, self.rows + len(rows)
        if weights is None and not whole:
            # NaN and infinities pass on to the extremes.
            low, high = torch.aminmax(rows, dim=0)
            if bool((low.isfinite() & high.isfinite()).all()):
                self._add_complete(rows, torch.maximum(low.abs(), high.abs()))
                return True
        seen = rows.isfinite()
        place = seen.int().argmax(0, keepdim=True)
        self.first = torch.where((self.count == 0) & seen.any(0), rows.gather(0, place), self.first)
        values = (rows - self.first).double()
        share = seen.double() if weights is None else seen * weights.unsqueeze(1)
        fresh = share.sum(0)
        mean = (share * torch.where(seen, values, 0.0)).sum(0) / _divisor(fresh)
        inner = (share * torch.where(seen, values - mean, 0.0).square()).sum(0)
        top = torch.where(rows == rows, rows, rows.new_zeros(())).double().abs().amax(0)
        self._merge(fresh, mean, inner, top)
        return False

    def _add_complete(self, rows: Tensor, top: Tensor) -> None:
        """Adds rows (B, D), float64, all of whose entries are numbers, in few passes."""
        assert self.count is not None  # for the type checker, as below
        self.first = torch.where(self.count == 0, rows[:1], self.first)
        values = rows - self.first
        mean = values.sum(0) / len(rows)
        inner = values.sub_(mean).square_().sum(0)
        self._merge(torch.full_like(mean, len(rows)), mean, inner, top)

    def _merge(self, fresh: Tensor, mean: Tensor, inner: Tensor, top: Tensor) -> None:
        """Adds so many entries of each column, of this mean, sum of squared differences and largest absolute value."""
        assert self.count is not None
        total = _divisor(self.count + fresh)
        shift = torch.where(fresh > 0, mean - self.mean, 0.0)
        # Chan, Golub and LeVeque (1983): two means and two centred sums merge without cancellation.
        between = shift.square() * self.count * fresh / total
        self.squares, self.between = self.squares + inner + between, self.between + between
        self.mean = self.mean + shift * fresh / total
        self.count = self.count + fresh
        self.largest = torch.maximum(self.largest, top)

    @property
    def likeness(self) -> float:
        """How alike rows are that were added together: the intraclass correlation of the column in which it is largest.

        It is the share of a column's variance that lies between the blocks: about 0 where rows come in random order, and
        near 1 where they are sorted. 0 where there is one block.

        Source: Fisher (1925), chapter 7; here from the mean squares of a one-way analysis of variance.
        """
        if self.count is None or self.blocks < 2:
            return 0.0
        size = self.rows / self.blocks
        between = self.between / (self.blocks - 1)
        within = (self.squares - self.between) / (self.count - self.blocks).clamp_min(1.0)
        correlation = (between - within) / _divisor(between + (size - 1) * within)
        varies = ~self.scale.is_constant.to(correlation.device)
        return max(0.0, float(torch.where(varies, correlation, 0.0).max()))

    @property
    def scale(self) -> Scale:
        """The scale of all rows so far."""
        assert self.count is not None
        none = self.count == 0
        spread = (self.squares / _divisor(self.count)).sqrt().masked_fill(none, torch.nan)
        mean = (self.mean + self.first[0].double()).masked_fill(none, torch.nan)
        # The distance between neighbouring floats is that at the power of two below.
        power = torch.ldexp(torch.ones_like(mean), self.largest.frexp().exponent - 1)
        step = max(self.step, _ROUNDINGS * torch.finfo(torch.float64).eps)
        rounding = torch.where(self.largest > 0, step * power, 0.0)
        return Scale(mean.cpu(), spread.cpu(), self.largest.cpu(), rounding.cpu())


def _divisor(count: Tensor) -> Tensor:
    """Counts, with 1 in place of 0."""
    return torch.where(count > 0, count, 1.0)
