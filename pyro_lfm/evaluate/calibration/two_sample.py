"""Whether a classifier can tell the truth from posterior draws."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch

from pyro_lfm.errors import DataError, ShapeError
from pyro_lfm.evaluate.calibration.exchange import (
    LEVEL,
    array_of,
    corrected,
    exchanged,
    finite,
    generator,
    members_of,
    ranks_of,
    said,
    tensor,
)

# Products of each kind that the classifier sees; draws of each row that it learns from; strength of its penalty.
_PRODUCTS, _LEARNED_FROM, _STRENGTH = 100, 5, 0.1
# Principal components of x.
_COMPONENTS = 5


@dataclass(frozen=True, repr=False, eq=False)
class TwoSample:
    """Ranks of the truth among draws by a classifier's score, in rows that it has not seen.

    Attributes:
        counts: rows by rank of the truth, (L + 1,): flat if the two cannot be told apart.
        p_value: of accuracy above 1/2.
        limit: the accuracy above which that is at most 5%.
        features: that the classifier saw.
    """

    counts: torch.Tensor
    p_value: float
    limit: float
    features: int

    @property
    def accuracy(self) -> float:
        """How often, of a truth and a draw of the same row, the truth has the higher score: 1/2 if q is exact."""
        draws = len(self.counts) - 1
        return float((self.counts * torch.arange(draws + 1)).sum() / self.counts.sum() / draws)

    @property
    def verdict(self) -> str:
        share = f"{self.accuracy:.1%} of truths from draws, by chance 50%"
        if self.p_value > LEVEL:
            return f"A classifier cannot tell them apart: it tells {share} ({said(self.p_value)})."
        return f"A classifier tells {share} ({said(self.p_value)}): q is not the posterior."

    def __repr__(self) -> str:
        return f"TwoSample({int(self.counts.sum())} rows to test, {self.features} features). {self.verdict}"


def classifier_two_sample(truth: Any, draws: Any, x: Any = None, seed: int = 0) -> TwoSample:
    """Can a classifier tell (x, z*) from (x, z) with z ~ q(z | x)?

    Logistic regression learns from one half of the rows; in the other half its score ranks the truth among the draws. The
    statistic is the share of draws that score below their row's truth, the null that of
    ``simulation_based_calibration``: whatever the classifier has learned, it is exact.

    What the classifier sees is quadratic: the coordinates r of z less the mean, over the deviation, of their row's draws;
    their squares and products; products of r with the row's means and with five principal components of x (at most 100
    products of a kind, drawn at random). More of the kind may stand among the columns of ``truth`` and ``draws``, such as
    log p(x, z).

    Args:
        truth, draws: as of ``simulation_based_calibration``, 40 rows at least.
        x: (N, D), NaN where missing.

    Raises:
        ShapeError, DataError: shapes that do not fit, too few rows or draws, NaN.

    Source: Lopez-Paz and Oquab (2017), "Revisiting classifier two-sample tests"; ranks within rows are ours.

    >>> rng = np.random.default_rng(0)
    >>> mean = rng.normal(size=(400, 1))
    >>> found = classifier_two_sample(mean + rng.normal(size=(400, 1)), mean + 0.5 * rng.normal(size=(99, 400, 1)))
    >>> found.p_value, found.accuracy > 0.6
    (0.001, True)
    """
    rng = generator(seed)
    members = members_of(truth, draws)
    rows = members.shape[1]
    if rows < 40:
        raise DataError(f"truth must have at least 40 rows, half of them to learn from; got {rows}")
    features = _Features(members, _context(x, rows), rng)
    order = rng.permutation(rows)
    learned, tested = order[: rows // 2], order[rows // 2 :]
    scores = _scores(features, learned, tested, rng)
    counts = exchanged(ranks_of(scores[:, :, None], rng), rng)[:, 0]
    size = counts.shape[1]
    mean = counts @ np.arange(size) / len(tested) / (size - 1)
    (p,), limit = corrected(mean[:, None])
    return TwoSample(tensor(counts[0]), float(p), limit, features.number)


class _Features:
    """What the classifier sees of a member of each row."""

    def __init__(self, members: np.ndarray, context: np.ndarray, rng: np.random.Generator):
        members = finite(members)
        centre, scale = members.mean(0), members.std(0)
        self.residual = (members - centre) / np.where(scale > 0, scale, 1.0)
        spread = centre.std(0)
        centre = (centre - centre.mean(0)) / np.where(spread > 0, spread, 1.0)
        self.context = np.concatenate([centre, context], 1)
        columns, others = self.residual.shape[2], self.context.shape[1]
        self.pairs = _some(list(combinations(range(columns), 2)), rng)
        self.mixed = _some([(i, j) for i in range(columns) for j in range(others)], rng)
        self.number = 2 * columns + len(self.pairs) + len(self.mixed)

    def of(self, member: int | np.ndarray, rows: np.ndarray) -> np.ndarray:
        r, c = self.residual[member, rows], self.context[rows]
        pairs = r[:, self.pairs[:, 0]] * r[:, self.pairs[:, 1]]
        mixed = r[:, self.mixed[:, 0]] * c[:, self.mixed[:, 1]]
        return np.concatenate([r, r * r, pairs, mixed], 1)


def _some(pairs: list[tuple[int, int]], rng: np.random.Generator) -> np.ndarray:
    every = np.array(pairs, dtype=int).reshape(-1, 2)
    return every[np.sort(rng.permutation(len(every))[:_PRODUCTS])]


def _context(x: Any, rows: int) -> np.ndarray:
    """Scores of the first principal components of x, each of deviation 1."""
    if x is None:
        return np.zeros((rows, 0))
    found = array_of("x", x)
    if found.ndim != 2 or len(found) != rows or not found.size:
        raise ShapeError(f"x must have shape (N, D) with the N={rows} rows of truth; got {found.shape}")
    seen = np.isfinite(found)
    count = seen.sum(0).clip(1)
    found = np.where(seen, found, 0.0)
    found = np.where(seen, found - found.sum(0) / count, 0.0)
    scale = np.sqrt(np.square(found).sum(0) / count)
    left, size, _ = np.linalg.svd(found / np.where(scale > 0, scale, 1.0), full_matrices=False)
    kept = size[:_COMPONENTS] > 1e-8 * max(size[0], 1e-300)
    return left[:, :_COMPONENTS][:, kept] * rows**0.5


def _scores(
    features: _Features, learned: np.ndarray, tested: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Of all members of the tested rows, (1 + L, N/2)."""
    from sklearn.linear_model import LogisticRegression

    draws = len(features.residual) - 1
    positive = features.of(0, learned)
    negative = [features.of(rng.integers(1, draws + 1, len(learned)), learned) for _ in range(_LEARNED_FROM)]
    every = np.concatenate([positive, *negative])
    centre, scale = every.mean(0), every.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    labels = np.repeat([1, 0], [len(learned), len(learned) * _LEARNED_FROM])
    weights = np.where(labels == 1, 1.0, 1.0 / _LEARNED_FROM)
    classifier = LogisticRegression(C=_STRENGTH, max_iter=500)
    classifier.fit((every - centre) / scale, labels, weights)
    direction = classifier.coef_[0] / scale
    return np.stack([features.of(member, tested) @ direction for member in range(1 + draws)])
