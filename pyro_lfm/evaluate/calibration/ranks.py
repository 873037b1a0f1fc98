"""Ranks of the truth among posterior draws: simulation-based calibration, and the symmetry of the ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from pyro_lfm.errors import DataError, ShapeError
from pyro_lfm.evaluate.calibration.exchange import (
    LEVEL,
    column_names,
    corrected_p_values,
    exchange_counts,
    generator,
    members_of,
    p_text,
    ranks_of,
    tensor,
)
from pyro_lfm.evaluate.calibration.uniformity import Uniformity, rank_uniformity
from pyro_lfm.evaluate.inputs import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Columns that a verdict names.
_NAMED = 3


@dataclass(frozen=True, repr=False, eq=False)
class SimulationBasedCalibration:
    """Ranks of the coordinates of the latents and of further quantities, with the test that they are uniform.

    Attributes:
        ranks: the ranks of each column and their test. The coordinates come first.
        coordinates: K, the number of columns that are coordinates. The others are quantities of all coordinates.

    >>> import numpy as np
    >>> import pyro_lfm as lfm
    >>> rng = np.random.default_rng(0)
    >>> mean = rng.normal(size=(200, 1))
    >>> truth, draws = mean + rng.normal(size=(200, 1)), mean + rng.normal(size=(19, 200, 1))
    >>> result = lfm.evaluate.calibration.simulation_based_calibration(truth, draws)
    >>> result.ranks.names, result.p_value > 0.05
    (('z',), True)
    """

    ranks: Uniformity
    coordinates: int

    @property
    def p_value(self) -> float:
        return self.ranks.p_value

    @property
    def verdict(self) -> str:
        """The result of the test, in a sentence."""
        ranks, p = self.ranks, self.p_value
        if p > LEVEL:
            return f"The ranks of {_some(ranks.names)} look uniform ({p_text(p)})."
        worst = sorted(
            (int(k) for k in (ranks.p_values <= LEVEL).nonzero()), key=lambda k: -float(ranks.statistic[k])
        )
        named = "; ".join(
            f"{ranks.names[k]}: {_fault(ranks, k, k < self.coordinates)}" for k in worst[:_NAMED]
        )
        more = f"; and {len(worst) - _NAMED} more" if len(worst) > _NAMED else ""
        return f"Ranks are not uniform ({p_text(p)}). {named}{more}."

    def plot(self, *, title: str | None = "Ranks of the truth among draws") -> Figure:
        """F(u) − u of the ranks of each column, see ``lfm.plots.rank_curves``."""
        from pyro_lfm import plots

        return plots.rank_curves(self, title=title)

    def __repr__(self) -> str:
        return f"SimulationBasedCalibration({_size(self.ranks.counts)}). {self.verdict}"


def simulation_based_calibration(
    truth: Array,
    draws: Array,
    names: Sequence[str] | None = None,
    quantities: Mapping[str, tuple[Array, Array]] | None = None,
    seed: int = 0,
) -> SimulationBasedCalibration:
    """Are ranks of the truth among draws from q(z | x) uniform, as they are if q is the posterior?

    z* ~ p(z), x ~ p(x | z*), z₁ … z_L ~ q(z | x): if q(z | x) = p(z | x), the rank #{l : f(z_l, x) < f(z*, x)} is uniform on
    0 … L for every f. Here f is each coordinate, and each given quantity. The quantities log p(x, z) and log q(z | x) detect
    faults that no coordinate shows alone, such as correlations that q lacks, or data that q ignores.

    The statistic is the largest standardised distance of the ranks' distribution function from uniform, over ranks and
    columns. Its null is exact: under the exact posterior truth and draws are exchangeable within a row, so the statistic is
    compared with that of a random member of each row in place of the truth. Equal values, as labels have, are put in random
    order.

    Args:
        truth: z*, (N, K), of N simulated rows that are independent.
        draws: (L, N, K), independent, L ≥ 9, N ≥ 20.
        names: the names of the K coordinates.
        quantities: {name: (values at the truth (N,), values at the draws (L, N))}, f(z, x) beyond the coordinates.

    Raises:
        ShapeError, DataError: shapes that do not fit, too few rows or draws, NaN.

    Source: Talts, Betancourt, Simpson, Vehtari and Gelman (2018); Modrák, Moon, Kim, Bürkner, Huurre, Faltejsková, Gelman
    and Vehtari (2023) for quantities of the data; Säilynoja, Bürkner and Vehtari (2022) for bands of distribution functions.

    >>> rng = np.random.default_rng(0)
    >>> mean = rng.normal(size=(200, 1))
    >>> truth, draws = mean + rng.normal(size=(200, 1)), mean + 0.5 * rng.normal(size=(99, 200, 1))
    >>> print(simulation_based_calibration(truth, draws).verdict)
    Ranks are not uniform (p ≤ 0.001). z: draws are too close together.
    """
    rng = generator(seed)
    members = members_of(truth, draws)
    columns = column_names(names, members.shape[2])
    more = [_quantity(name, pair, members) for name, pair in _named(quantities).items()]
    ranks = np.concatenate([ranks_of(each, rng) for each in [members, *more]], 2)
    tested = rank_uniformity((*columns, *(quantities or ())), ranks, rng)
    return SimulationBasedCalibration(tested, len(columns))


def _named(
    quantities: Mapping[str, tuple[Array, Array]] | None,
) -> Mapping[str, tuple[Array, Array]]:
    if quantities is not None and not isinstance(quantities, Mapping):
        raise DataError(
            f"quantities must be {{name: (of the truth, of the draws)}}; got {type(quantities).__name__}"
        )
    return quantities or {}


def _quantity(name: str, pair: tuple[Array, Array], members: np.ndarray) -> np.ndarray:
    """The values of a quantity at all members, (1 + L, N, 1)."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise DataError(f"quantities[{name!r}] must be a pair (of the truth (N,), of the draws (L, N))")
    truth, draws = pair
    values = members_of(truth, draws, (f"quantities[{name!r}] of the truth", "of the draws"))
    if values.shape != (*members.shape[:2], 1):
        raise ShapeError(
            f"quantities[{name!r}] must be of the same N={members.shape[1]} rows and L={len(members) - 1} draws, one number "
            f"each; got {values.shape[1]} rows, {len(values) - 1} draws, {values.shape[2]} numbers"
        )
    return values


@dataclass(frozen=True, repr=False, eq=False)
class VariationalCalibration:
    """p_k = Pr(z_k < z*_k | q) of each coordinate, with the test that it is symmetric about 1/2.

    Attributes:
        names: the names of the coordinates.
        counts: rows by rank of the truth, (K, L + 1). The p of ``statistic`` is the rank over L.
        statistic: ``√N max_p |F_k(p) + F_k((1 − p)⁻) − 1|``, (K,), F_k the distribution function of p_k.
        p_values: of each coordinate, corrected for the number of coordinates, (K,).
        limit: a statistic above it rejects at 5%.

    >>> import numpy as np
    >>> import pyro_lfm as lfm
    >>> rng = np.random.default_rng(0)
    >>> mean = rng.normal(size=(200, 1))
    >>> truth, draws = mean + rng.normal(size=(200, 1)), mean + rng.normal(size=(19, 200, 1))
    >>> result = lfm.evaluate.calibration.variational_calibration(truth, draws + 0.5)  # draws that are too high
    >>> result.names, bool(result.p_values[0] < 0.05)
    (('z',), True)
    """

    names: tuple[str, ...]
    counts: torch.Tensor
    statistic: torch.Tensor
    p_values: torch.Tensor
    limit: float

    @property
    def p_value(self) -> float:
        """The p-value of all coordinates together."""
        return float(self.p_values.min())

    @property
    def mean(self) -> torch.Tensor:
        """The mean of p, (K,): above 1/2 where draws are too low."""
        ranks = torch.arange(self.counts.shape[1]).double()
        return (self.counts * ranks).sum(1) / self.counts.sum(1) / (self.counts.shape[1] - 1)

    @property
    def verdict(self) -> str:
        """The result of the test, in a sentence."""
        p = self.p_value
        if p > LEVEL:
            return f"No bias in {_some(self.names)} ({p_text(p)}). This test does not look at the width of q."
        worst = sorted(
            (int(k) for k in (self.p_values <= LEVEL).nonzero()), key=lambda k: -float(self.statistic[k])
        )
        named = "; ".join(
            f"draws of {self.names[k]} are too {'low' if self.mean[k] > 0.5 else 'high'} (mean p {float(self.mean[k]):.2f})"
            for k in worst[:_NAMED]
        )
        more = f"; and {len(worst) - _NAMED} more" if len(worst) > _NAMED else ""
        return f"q is biased ({p_text(p)}): {named}{more}."

    def plot(self, *, title: str | None = "Is q centred on the truth?") -> Figure:
        """The asymmetry of each coordinate's p, see ``lfm.plots.symmetry_curves``."""
        from pyro_lfm import plots

        return plots.symmetry_curves(self, title=title)

    def __repr__(self) -> str:
        return f"VariationalCalibration({_size(self.counts)}). {self.verdict}"


def variational_calibration(
    truth: Array, draws: Array, names: Sequence[str] | None = None, seed: int = 0
) -> VariationalCalibration:
    """VSBC: is q(z | x) biased? Symmetry of the marginal calibration probabilities p_k = Pr(z_k < z*_k | q) about 1/2.

    A q that is too narrow or too wide, but centred, has symmetric p: the test detects bias and ignores spread, by design.
    The statistic is the Kolmogorov-Smirnov distance of p from 1 − p, the null that of ``simulation_based_calibration``.

    Args:
        truth, draws, names: as of ``simulation_based_calibration``.

    Raises:
        ShapeError, DataError: as there.

    Source: Yao, Vehtari, Simpson and Gelman (2018), "Yes, but did it work?: Evaluating variational inference".

    >>> rng = np.random.default_rng(0)
    >>> mean = rng.normal(size=(200, 1))
    >>> truth, draws = mean + rng.normal(size=(200, 1)), mean - 0.5 + rng.normal(size=(99, 200, 1))
    >>> print(variational_calibration(truth, draws).verdict)
    q is biased (p ≤ 0.001): draws of z are too low (mean p 0.61).
    """
    rng = generator(seed)
    members = members_of(truth, draws)
    counts = exchange_counts(ranks_of(members, rng), rng)
    halved = (counts - counts[:, :, ::-1]).cumsum(2)
    statistic = np.abs(halved).max(2) / members.shape[1] ** 0.5
    p, limit = corrected_p_values(statistic)
    columns = column_names(names, members.shape[2])
    return VariationalCalibration(columns, tensor(counts[0]), tensor(statistic[0]), tensor(p), limit)


def _fault(ranks: Uniformity, k: int, coordinate: bool) -> str:
    """How the ranks of a column differ from uniform ones, as text."""
    bias, spread = float(ranks.bias[k]), float(ranks.spread[k])
    if max(abs(bias), abs(spread)) < 2:
        return "of another shape"
    if not coordinate and abs(bias) >= 2:
        return f"{'higher' if bias > 0 else 'lower'} at the truth than at draws"
    if abs(bias) > abs(spread):
        return f"draws are too {'low' if bias > 0 else 'high'}"
    return f"draws are too {'close together' if spread > 0 else 'far apart'}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{names[0]} … {names[-1]} ({len(names)} columns)"


def _size(counts: torch.Tensor) -> str:
    return f"{len(counts)} columns, {int(counts[0].sum())} rows, {counts.shape[1] - 1} draws"
