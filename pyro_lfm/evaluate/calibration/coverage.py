"""How often regions of q(z | x) hold the truth: regions of highest density, and balls around random points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pyro_lfm.evaluate.calibration.exchange import LEVEL, finite, generator, members_of, ranks_of, said
from pyro_lfm.evaluate.calibration.uniformity import Uniformity, uniformity
from pyro_lfm.shapes import whole

# Standard deviations at which references lie: mostly outside of where the truth lies, so that a bias has a side.
_FAR = 2.0


@dataclass(frozen=True, repr=False, eq=False)
class Coverage:
    """The share of rows whose truth lies inside regions that hold a share of q, region by region.

    Attributes:
        of: what the regions are.
        ranks: of the truth from the inside out, with their test; a column for each family of regions.
    """

    of: str
    ranks: Uniformity

    @property
    def p_value(self) -> float:
        return self.ranks.p_value

    @property
    def credibility(self) -> torch.Tensor:
        """The share of q that regions hold, (L,)."""
        return self.ranks.levels

    @property
    def coverage(self) -> torch.Tensor:
        """The share of rows whose truth they hold, (C, L)."""
        return self.ranks.shares

    @property
    def verdict(self) -> str:
        p, found = self.p_value, self.ranks
        worst = int(found.statistic.argmax())
        u, shares = self.credibility, self.coverage[worst]
        at = int((u - 0.9).abs().argmin())
        held = f"{self.of} of {float(u[at]):.0%} hold {float(shares[at]):.0%} of the truths"
        if p > LEVEL:
            return f"Coverage is as stated: {held} ({said(p)})."
        bias, spread = float(found.bias[worst]), float(found.spread[worst])
        if len(found.names) == 1:
            kind = "overconfident" if bias > 2 else "too cautious" if bias < -2 else "wrong in shape"
        elif abs(bias) > abs(spread):
            kind = "biased"
        else:
            kind = "overconfident" if spread > 0 else "too cautious"
        return f"q is {kind} ({said(p)}): {held}{' from the reference that shows it best' * (len(found.names) > 1)}."

    def __repr__(self) -> str:
        return f"Coverage({self.of}, {self.ranks.rows} rows, {self.ranks.draws} draws). {self.verdict}"


def expected_coverage(log_q_truth: Any, log_q_draws: Any, seed: int = 0) -> Coverage:
    """Do regions of highest density of q(z | x) hold as many truths as they say?

    The smallest region of q on whose edge z* lies has credibility Pr(q(z | x) > q(z* | x)), estimated by the share of draws
    with a higher density, and is uniform if q is the posterior. It sees a q that is too narrow or too wide; a bias it sees
    in second order alone. The null is that of ``simulation_based_calibration``.

    Args:
        log_q_truth: log q(z* | x) of simulated rows, (N,).
        log_q_draws: log q of draws from q(z | x), (L, N).

    Raises:
        ShapeError, DataError: shapes that do not fit, too few rows or draws, NaN.

    Source: Hermans, Delaunoy, Rozet, Wehenkel, Begy and Louppe (2022), section 2.

    >>> rng = np.random.default_rng(0)
    >>> truth, draws = rng.normal(size=400), 0.5 * rng.normal(size=(99, 400))
    >>> print(expected_coverage(-(truth**2), -(draws**2)).verdict)
    q is overconfident (p ≤ 0.001): regions of highest density of 90% hold 58% of the truths.
    """
    rng = generator(seed)
    members = members_of(log_q_truth, log_q_draws, ("log_q_truth", "log_q_draws"))
    return Coverage("regions of highest density", uniformity(("log q",), ranks_of(-members, rng), rng))


def tarp(truth: Any, draws: Any, references: int = 10, seed: int = 0) -> Coverage:
    """Do balls around random points that reach out to a share of q(z | x) hold that share of the truths?

    f = Pr(d(z, z_r) < d(z*, z_r) | q) is uniform for a reference z_r that does not know z*, if q is the posterior. In
    the first column each row has a reference of its own, as published: there a bias mostly cancels, as it lies towards the
    reference as often as away from it. In the others all rows share one, which keeps the side. Distances are Euclidean
    in coordinates that have mean 0 and deviation 1 over all rows, references N(0, 2²) there.

    Args:
        truth, draws: as of ``simulation_based_calibration``.
        references: that all rows share, ≥ 1.

    Raises:
        ShapeError, DataError: shapes that do not fit, too few rows or draws, NaN.

    Source: Lemos, Coogan, Hezaveh and Perreault-Levasseur (2023), algorithm 2.

    >>> rng = np.random.default_rng(0)
    >>> mean = rng.normal(size=(400, 2))
    >>> found = tarp(mean + rng.normal(size=(400, 2)), mean + 1.0 + rng.normal(size=(99, 400, 2)))
    >>> found.p_value, len(found.ranks.names)
    (0.001, 11)
    """
    references = whole("references", references)
    rng = generator(seed)
    members = finite(members_of(truth, draws))
    # Means and deviations of truth and draws alike: what knew the truth apart would undo the exchange.
    scale = members.std((0, 1))
    members = (members - members.mean((0, 1))) / np.where(scale > 0, scale, 1.0)
    rows, columns = members.shape[1:]
    points = [rng.normal(scale=_FAR, size=(rows, columns))]
    points += [rng.normal(scale=_FAR, size=(1, columns)) for _ in range(references)]
    distance = np.stack([np.square(members - point).sum(2) for point in points], 2)
    names = ("a reference for each row", *(f"reference {r + 1}" for r in range(references)))
    return Coverage("balls around references", uniformity(names, ranks_of(distance, rng), rng))
