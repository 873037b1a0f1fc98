"""A test that ranks of the truth among its draws are uniform, as they are under the exact posterior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from pyro_lfm.evaluate.calibration.exchange import EXCHANGES, corrected_p_values, exchange_counts, tensor

# Ranks beyond which fewer rows than this are expected are left out: the share of so few rows has a skewed distribution.
_BEYOND = 10
# Exchanges in one block.
_TOGETHER = 50


@dataclass(frozen=True, repr=False, eq=False)
class Uniformity:
    """Ranks of the truth among L draws in N rows, for each of C columns, and the test that they are uniform on 0 … L.

    ``T_c = max_r |F_c(r) − u_r| / √(u_r (1 − u_r) / N)``, u_r = (r + 1)/(L + 1), F_c the share of rows with rank at most r.

    Attributes:
        names: the names of the columns.
        counts: rows by rank, (C, L + 1).
        statistic: T, (C,).
        p_values: of each column, corrected for the number of columns, (C,).
        limit: a T_c above this limit rejects at 5%. It is half the width, in standard deviations, of the band that holds all
            curves F_c − u in 95% of data sets under the exact posterior.

    >>> import numpy as np
    >>> import pyro_lfm as lfm
    >>> rng = np.random.default_rng(0)
    >>> mean = rng.normal(size=(200, 1))
    >>> truth, draws = mean + rng.normal(size=(200, 1)), mean + rng.normal(size=(19, 200, 1))
    >>> ranks = lfm.evaluate.calibration.simulation_based_calibration(truth, draws).ranks
    >>> ranks.names, ranks.counts.shape, ranks.p_values.shape
    (('z',), torch.Size([1, 20]), torch.Size([1]))
    """

    names: tuple[str, ...]
    counts: torch.Tensor
    statistic: torch.Tensor
    p_values: torch.Tensor
    limit: float

    @property
    def p_value(self) -> float:
        """The p-value of all columns together."""
        return float(self.p_values.min())

    @property
    def rows(self) -> int:
        return int(self.counts[0].sum())

    @property
    def draws(self) -> int:
        return self.counts.shape[1] - 1

    @property
    def levels(self) -> torch.Tensor:
        """u_r of the ranks 0 … L − 1, (L,)."""
        return tensor(_levels(self.draws + 1))

    @property
    def shares(self) -> torch.Tensor:
        """F_c, (C, L)."""
        return self.counts.double().cumsum(1)[:, :-1] / self.rows

    @property
    def band(self) -> torch.Tensor:
        """The allowed distance of F from u, (L,): infinite at the ends, which the test leaves out."""
        u = self.levels
        width = self.limit * (u * (1 - u) / self.rows).sqrt()
        return width.where(tensor(_tested(self.draws + 1, self.rows)), torch.inf)

    @property
    def bias(self) -> torch.Tensor:
        """√(12 N) (ū − 1/2), (C,), u the ranks mapped into (0, 1): about N(0, 1) for an exact q, positive where draws are
        too low."""
        return self._moment(lambda u: 12**0.5 * (u - 0.5))

    @property
    def spread(self) -> torch.Tensor:
        """√(5 N) mean (6u² − 6u + 1), (C,). It is about N(0, 1) for an exact q, and positive where draws are too close."""
        return self._moment(lambda u: 5**0.5 * (6 * u * u - 6 * u + 1))

    def _moment(self, polynomial: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        u = (torch.arange(self.draws + 1).double() + 0.5) / (self.draws + 1)
        return (self.counts * polynomial(u)).sum(1) / self.rows**0.5


def rank_uniformity(names: tuple[str, ...], ranks: np.ndarray, rng: np.random.Generator) -> Uniformity:
    """Tests the ranks of all members, (1 + L, N, C), as ``ranks_of`` gives them."""
    counts = exchange_counts(ranks, rng)
    size, rows = ranks.shape[:2]
    statistic = np.empty(counts.shape[:2])
    u, seen = _levels(size), _tested(size, rows)
    error = np.sqrt(u * (1 - u) / rows)
    for start in range(0, 1 + EXCHANGES, _TOGETHER):
        part = slice(start, start + _TOGETHER)
        shares = counts[part].cumsum(2)[:, :, :-1] / rows
        statistic[part] = (np.abs(shares - u) / error)[:, :, seen].max(2)
    p, limit = corrected_p_values(statistic)
    return Uniformity(names, tensor(counts[0]), tensor(statistic[0]), tensor(p), limit)


def _levels(size: int) -> np.ndarray:
    return np.arange(1, size) / size


def _tested(size: int, rows: int) -> np.ndarray:
    u = _levels(size)
    return rows * np.minimum(u, 1 - u) >= min(_BEYOND, 0.4 * rows)
