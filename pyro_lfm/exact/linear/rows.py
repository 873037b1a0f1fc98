"""Data for exact linear inference: complete rows are read once and compressed, rows with missing entries read again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_lfm.errors import DataError
from pyro_lfm.exact.gap_patterns import Patterns, patterns
from pyro_lfm.exact.weighted_rows import pairs_of


class Piece(NamedTuple):
    """Rows, or a few weighted rows that stand for many.

    values: (R, D), float64, minus the column means, NaN where missing.
    intercept: (R,), the factor of the bias; 1 for rows of the data.
    rows: the number of rows of the data that the piece stands for: the sum of their weights.
    patterns: those of the missing entries.
    weights: (R,), that of each row where rows of the data have weights. Its root is in values and intercept already.
    """

    values: Tensor
    intercept: Tensor
    rows: float
    patterns: Patterns
    weights: Tensor | None = None


# Data with at most as many entries (64 MB) are kept, with the patterns of their gaps.
_KEPT = 2**23


class Rows:
    """N rows of D columns that are read in blocks, so that they need not fit in memory.

    The constructor reads the blocks once. If nothing is missing, it compresses them to the sufficient statistic of
    linear Gaussian models, min(N, D) + 1 weighted rows with the same Σₙ (xₙ, 1)(xₙ, 1)ᵀ, and the data are not read
    again. If entries are missing, each iteration reads the blocks anew, unless they have at most 2²³ entries, which are
    kept in memory. Nothing of size N² is kept.

    Args:
        blocks: a callable that starts a new pass and returns blocks (B, D) of real numbers, in the same order each
            time. NaN means missing. B may vary. ``WeightedRows`` count each row as often as its weight says.

    Attributes:
        count: N, the sum of the weights where rows have some. dim: D. has_missing: whether any entry is missing.
        entries: the number of entries, without weights. observed: (D,), the observed entries per column, weighted.
        mean, variance: (D,), of the observed entries, in units of the columns (variance: squared units, ML).

    Raises:
        DataError: no rows, blocks that differ in D, an infinite entry, or a column of which nothing is observed.

    >>> rows = Rows(lambda: iter([torch.zeros(3, 2), torch.ones(1, 2)]))
    >>> rows
    Rows(4 rows of 2 columns)
    >>> rows.mean
    tensor([0.2500, 0.2500], dtype=torch.float64)
    """

    def __init__(self, blocks: Callable[[], Iterable[Tensor]]):
        self._start = blocks
        self.count: float = 0
        self.has_missing = False
        self.entries = 0
        scatter: _Scatter | None = None
        for block, weights in self._pairs():
            if scatter is None:
                self.dim = block.shape[1]
                scatter = _Scatter(self.dim)
                self.observed = torch.zeros(self.dim, dtype=torch.float64)
                self.mean, squares = torch.zeros_like(self.observed), torch.zeros_like(self.observed)
            self.entries += block.numel()
            seen = ~block.isnan()
            self.has_missing |= not bool(seen.all())
            squares = self._add_columns(block, seen, squares, weights)
            if not self.has_missing:
                scatter.add(block, weights)
            self.count += block.shape[0] if weights is None else float(weights.sum())
        if scatter is None or self.count == 0:
            raise DataError("x must have at least one row; got none")
        empty = (self.observed == 0).nonzero().flatten().tolist()
        if empty:
            raise DataError(
                f"each column of x must have an observed entry; column {empty[0]} has none"
                + (f" ({len(empty)} such columns)" if len(empty) > 1 else "")
                + ": drop it"
            )
        self.variance = squares / self.observed
        self._kept: list[Piece] | None = None
        self._factor = None if self.has_missing else scatter.factor()
        # Of few rows the factor is the rows themselves, with these roots of their weights.
        self._roots = None if self.has_missing else scatter.roots()

    @classmethod
    def of(cls, x: Tensor, block: int = 2048) -> Rows:
        """The rows of a tensor (N, D), NaN where missing, in blocks of at most ``block`` rows.

        >>> Rows.of(torch.tensor([[1.0, float("nan")], [3.0, 5.0]])).observed
        tensor([2., 1.], dtype=torch.float64)
        """
        if x.dim() != 2:
            raise DataError(f"x must have shape (N, D); got {tuple(x.shape)}")
        return cls(lambda: iter(x.split(block)) if x.shape[0] else iter(()))

    def __repr__(self) -> str:
        missing = ", some entries missing" * self.has_missing
        return f"Rows({self.count} rows of {self.dim} columns{missing})"

    def blocks(self) -> Iterator[Tensor]:
        """A new pass over the data, checked: blocks (B, D), float64, B ≥ 1."""
        return (block for block, _ in self._pairs())

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """A new pass over the blocks, checked, with the weights of their rows."""
        dim = None
        for block, weights in pairs_of(self._start()):
            if block.dim() != 2 or block.shape[1] != (dim or block.shape[1]):
                raise DataError(f"a block of x must have shape (B, {dim or 'D'}); got {tuple(block.shape)}")
            dim = block.shape[1]
            if dim == 0:
                raise DataError("x must have at least one column; got none")
            block = block.detach().to(device="cpu", dtype=torch.float64)
            if bool(block.isinf().any()):
                raise DataError("entries of x must be finite, or NaN where missing; got an infinite entry")
            if block.shape[0]:
                yield block, weights

    def pieces(self) -> Iterator[Piece]:
        """A pass over the data as differences from the column means: one small piece if nothing is missing."""
        if self._factor is None:
            if self._kept is None and self.entries <= _KEPT:
                self._kept = list(self._pieces_with_gaps())
            yield from self._pieces_with_gaps() if self._kept is None else self._kept
        elif self._roots is not None:
            yield Piece(self._factor, self._roots, self.count, patterns(self._factor))
        else:
            # Centred rows sum to zero, so one more row, with the intercept √N and no values, carries the means.
            intercept = torch.zeros(self.dim + 1, dtype=torch.float64)
            intercept[-1] = self.count**0.5
            values = torch.cat([self._factor, torch.zeros(1, self.dim, dtype=torch.float64)])
            yield Piece(values, intercept, self.count, patterns(values))

    def _pieces_with_gaps(self) -> Iterator[Piece]:
        for block, weights in self._pairs():
            gaps = patterns(block)
            if weights is None:
                ones = torch.ones(block.shape[0], dtype=torch.float64)
                yield Piece(block - self.mean, ones, block.shape[0], gaps)
            else:
                roots = weights.sqrt()
                values = (block - self.mean) * roots.unsqueeze(1)
                yield Piece(values, roots, float(weights.sum()), gaps, weights)

    def factor(self) -> Tensor:
        """F, (R, D) with R ≤ D and FᵀF = Σₙ (xₙ − mean)(xₙ − mean)ᵀ, missing entries replaced by column means."""
        if self._factor is not None:
            return self._factor
        scatter = _Scatter(self.dim)
        for block, weights in self._pairs():
            scatter.add(torch.where(block.isnan(), self.mean, block), weights)
        return scatter.factor()

    def _add_columns(self, block: Tensor, seen: Tensor, squares: Tensor, weights: Tensor | None) -> Tensor:
        """Merges a block into the column counts and means, and returns the new sums of squared differences.

        Chan, Golub and LeVeque (1983): two means and two centred sums merge without cancellation.
        """
        share = seen.double() if weights is None else seen * weights.unsqueeze(1)
        fresh = share.sum(0)
        mean = (share * block.nan_to_num()).sum(0) / _divisor(fresh)
        total = _divisor(self.observed + fresh)
        shift = torch.where(fresh > 0, mean - self.mean, 0.0)
        inner = (share * torch.where(seen, block - mean, 0.0).square()).sum(0)
        squares = squares + inner + shift.square() * self.observed * fresh / total
        self.mean = self.mean + shift * fresh / total
        self.observed = self.observed + fresh
        return squares


class _Scatter:
    """The centred scatter matrix of complete rows. Up to D rows are kept themselves: they are smaller and more exact."""

    def __init__(self, dim: int):
        self.dim = dim
        self.count: float = 0
        self.mean = torch.zeros(dim, dtype=torch.float64)
        self.matrix: Tensor | None = None
        self.held: list[Tensor] = []
        self.weights: list[Tensor] = []
        self.waiting = 0

    def add(self, block: Tensor, weights: Tensor | None = None) -> None:
        self.held.append(block)
        self.weights.append(torch.ones_like(block[:, 0]) if weights is None else weights)
        self.waiting += block.shape[0]
        if self.waiting > self.dim:
            self._fold()

    def _fold(self) -> None:
        block, weights = torch.cat(self.held), torch.cat(self.weights)
        self.held, self.weights, self.waiting = [], [], 0
        fresh = float(weights.sum())
        mean = _mean(block, weights)
        total, shift = self.count + fresh, mean - self.mean
        if self.matrix is None:
            self.matrix = torch.zeros(self.dim, self.dim, dtype=torch.float64)
        block = (block - mean) * weights.sqrt().unsqueeze(1)
        self.matrix.addmm_(block.mT, block)
        self.matrix.addr_(shift, shift, alpha=self.count * fresh / total)
        self.mean = self.mean + shift * (fresh / total)
        self.count = total

    def roots(self) -> Tensor | None:
        """The roots of the weights of the rows, (R,), while all rows are kept; else None."""
        return torch.cat(self.weights).sqrt() if self.matrix is None else None

    def factor(self) -> Tensor:
        if (roots := self.roots()) is not None:
            block = torch.cat(self.held)
            return (block - _mean(block, torch.cat(self.weights))) * roots.unsqueeze(1)
        if self.held:
            self._fold()
        assert self.matrix is not None  # for the type checker: there are no roots then
        # The eigenvalues of correlations, unlike those of covariances, keep digits if the scales of columns differ much.
        scale = self.matrix.diagonal().clamp(min=0).sqrt()
        divisor = torch.where(scale > 0, scale, 1.0)
        values, vectors = torch.linalg.eigh(self.matrix / divisor / divisor.unsqueeze(1))
        return (vectors * values.clamp(min=0).sqrt()).mT * scale


def _mean(block: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean of rows (B, D)."""
    return (weights.unsqueeze(1) * block).sum(0) / weights.sum()


def _divisor(count: Tensor) -> Tensor:
    """Counts, with 1 in place of 0."""
    return torch.where(count > 0, count, 1.0)
