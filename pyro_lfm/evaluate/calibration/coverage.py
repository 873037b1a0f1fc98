"""How often regions of q(z | x) contain the truth: regions of highest density, and balls around random points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from pyro_lfm.evaluate.calibration.exchange import LEVEL, finite, generator, members_of, p_text, ranks_of
from pyro_lfm.evaluate.calibration.uniformity import Uniformity, rank_uniformity
from pyro_lfm.evaluate.inputs import Array
from pyro_lfm.shapes import whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Standard deviation of the reference points. Most lie outside the region of the truths, so that a bias has a direction.
_FAR = 2.0


@dataclass(frozen=True, repr=False, eq=False)
class Coverage:
    """For regions that hold a given share of q, the share of rows whose truth lies inside.

    Attributes:
        of: the kind of region, as text.
        ranks: ranks of the truth from the inside of the region to the outside, with their test. A column for each family of
            regions.

    >>> import numpy as np
    >>> import pyro_lfm as lfm
    >>> rng = np.random.default_rng(0)
    >>> truth, draws = rng.normal(size=200), 0.5 * rng.normal(size=(99, 200))  # too narrow
    >>> coverage = lfm.evaluate.calibration.expected_coverage(-(truth**2), -(draws**2))
    >>> coverage.p_value < 0.05, coverage.ranks.counts.shape
    (True, torch.Size([1, 100]))
    """

    of: str
    ranks: Uniformity

    @property
    def p_value(self) -> float:
        return self.ranks.p_value

    @property
    def credibility(self) -> torch.Tensor:
        """The share of q inside each region, (L,)."""
        return self.ranks.levels

    @property
    def coverage(self) -> torch.Tensor:
        """The share of rows whose truth lies inside, (C, L)."""
        return self.ranks.shares

    @property
    def verdict(self) -> str:
        """The result of the test, in a sentence."""
        p, ranks = self.p_value, self.ranks
        worst = int(ranks.statistic.argmax())
        u, shares = self.credibility, self.coverage[worst]
        at = int((u - 0.9).abs().argmin())
        statement = f"{self.of} of {float(u[at]):.0%} contain {float(shares[at]):.0%} of the truths"
        if p > LEVEL:
            return f"Coverage is as stated: {statement} ({p_text(p)})."
        bias, spread = float(ranks.bias[worst]), float(ranks.spread[worst])
        if len(ranks.names) == 1:
            kind = "overconfident" if bias > 2 else "too cautious" if bias < -2 else "wrong in shape"
        elif abs(bias) > abs(spread):
            kind = "biased"
        else:
            kind = "overconfident" if spread > 0 else "too cautious"
        reference = " around the reference with the largest deviation" if len(ranks.names) > 1 else ""
        return f"q is {kind} ({p_text(p)}): {statement}{reference}."

    def plot(self, *, title: str | None = "Coverage") -> Figure:
        """The share of truths inside regions by their share of q, see ``lfm.plots.region_coverage``."""
        from pyro_lfm import plots

        return plots.region_coverage(self, title=title)

    def __repr__(self) -> str:
        return f"Coverage({self.of}, {self.ranks.rows} rows, {self.ranks.draws} draws). {self.verdict}"


def expected_coverage(log_q_truth: Array, log_q_draws: Array, seed: int = 0) -> Coverage:
    """Do regions of highest density of q(z | x) contain the share of truths that they claim?

    The region of highest density with z* on its edge has credibility Pr(q(z | x) > q(z* | x)), estimated by the share of
    draws with a higher density. The credibility is uniform if q is the posterior. The test detects a q that is too narrow
    or too wide, and a bias only in second order. The null is that of ``simulation_based_calibration``.

    Args:
        log_q_truth: log q(z* | x) of simulated rows, (N,).
        log_q_draws: log q of draws from q(z | x), (L, N).

    Raises:
        ShapeError, DataError: shapes that do not fit, too few rows or draws, NaN.

    Source: Hermans, Delaunoy, Rozet, Wehenkel, Begy and Louppe (2022), section 2.

    >>> rng = np.random.default_rng(0)
    >>> truth, draws = rng.normal(size=400), 0.5 * rng.normal(size=(99, 400))
    >>> print(expected_coverage(-(truth**2), -(draws**2)).verdict)
    q is overconfident (p ≤ 0.001): regions of highest density of 90% contain 58% of the truths.
    """
    rng = generator(seed)
    members = members_of(log_q_truth, log_q_draws, ("log_q_truth", "log_q_draws"))
    return Coverage("regions of highest density", rank_uniformity(("log q",), ranks_of(-members, rng), rng))


def tarp(truth: Array, draws: Array, references: int = 10, seed: int = 0) -> Coverage:
    """Do balls around random points that contain a share of q(z | x) contain that share of the truths?

    f = Pr(d(z, z_r) < d(z*, z_r) | q) is uniform for a reference z_r that is independent of z*, if q is the posterior. In
    the first column each row has a reference of its own, as published. A bias mostly cancels there, as it points towards
    the reference as often as away from it. In each other column all rows share one reference, so that a bias does not
    cancel. Distances are Euclidean in coordinates with mean 0 and deviation 1 over all rows, references N(0, 2²) there.

    Args:
        truth, draws: as of ``simulation_based_calibration``.
        references: how many references all rows share, ≥ 1.

    Raises:
        ShapeError, DataError: shapes that do not fit, too few rows or draws, NaN.

    Source: Lemos, Coogan, Hezaveh and Perreault-Levasseur (2023), algorithm 2.

    >>> rng = np.random.default_rng(0)
    >>> mean = rng.normal(size=(400, 2))
    >>> coverage = tarp(mean + rng.normal(size=(400, 2)), mean + 1.0 + rng.normal(size=(99, 400, 2)))
    >>> coverage.p_value, len(coverage.ranks.names)
    (0.001, 11)
    """
    references = whole("references", references)
    rng = generator(seed)
    members = finite(members_of(truth, draws))
    # Means and deviations over truth and draws together, because a scale of the truth alone would break the exchange.
    scale = members.std((0, 1))
    members = (members - members.mean((0, 1))) / np.where(scale > 0, scale, 1.0)
    rows, columns = members.shape[1:]
    points = [rng.normal(scale=_FAR, size=(rows, columns))]
    points += [rng.normal(scale=_FAR, size=(1, columns)) for _ in range(references)]
    distance = np.stack([np.square(members - point).sum(2) for point in points], 2)
    names = ("a reference for each row", *(f"reference {r + 1}" for r in range(references)))
    return Coverage("balls around references", rank_uniformity(names, ranks_of(distance, rng), rng))
