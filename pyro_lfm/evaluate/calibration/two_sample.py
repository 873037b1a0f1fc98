"""A classifier two-sample test: can a classifier tell the truth from posterior draws?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import torch

from pyro_lfm.errors import DataError, ShapeError
from pyro_lfm.evaluate.calibration.exchange import (
    LEVEL,
    array_of,
    corrected_p_values,
    exchange_counts,
    finite,
    generator,
    members_of,
    p_text,
    ranks_of,
    tensor,
)
from pyro_lfm.evaluate.inputs import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Products of each kind among the features, draws of each row in the training set, inverse strength of the penalty.
_PRODUCTS, _LEARNED_FROM, _STRENGTH = 100, 5, 0.1
# Principal components of x.
_COMPONENTS = 5


@dataclass(frozen=True, repr=False, eq=False)
class TwoSample:
    """Ranks of the truth among draws by a classifier's score, in rows outside of its training set.

    Attributes:
        counts: rows by rank of the truth, (L + 1,): flat if truths look like draws.
        p_value: of the hypothesis that the accuracy is 1/2, against a larger one.
        limit: the accuracy above which the p-value is at most 5%.
        features: the number of features of the classifier.

    >>> import numpy as np
    >>> import pyro_lfm as lfm
    >>> rng = np.random.default_rng(0)
    >>> mean = rng.normal(size=(200, 1))
    >>> truth, draws = mean + rng.normal(size=(200, 1)), mean + rng.normal(size=(19, 200, 1))
    >>> result = lfm.evaluate.calibration.classifier_two_sample(truth, draws)
    >>> result.counts.shape, result.p_value > 0.05
    (torch.Size([20]), True)
    """

    counts: torch.Tensor
    p_value: float
    limit: float
    features: int

    @property
    def accuracy(self) -> float:
        """The probability that a truth has a higher score than a draw of its row: 1/2 if q is exact."""
        draws = len(self.counts) - 1
        return float((self.counts * torch.arange(draws + 1)).sum() / self.counts.sum() / draws)

    @property
    def verdict(self) -> str:
        """The result of the test, in a sentence."""
        share = f"{self.accuracy:.1%} of truths from draws, by chance 50%"
        if self.p_value > LEVEL:
            return f"A classifier cannot tell them apart: it tells {share} ({p_text(self.p_value)})."
        return f"A classifier tells {share} ({p_text(self.p_value)}): q is not the posterior."

    def plot(self, *, title: str | None = "Accuracy of a classifier of truths and draws") -> Figure:
        """Rows by the rank of the truth by the classifier's score, see ``lfm.plots.two_sample``."""
        from pyro_lfm import plots

        return plots.two_sample(self, title=title)

    def __repr__(self) -> str:
        return f"TwoSample({int(self.counts.sum())} rows to test, {self.features} features). {self.verdict}"


def classifier_two_sample(truth: Array, draws: Array, x: Array | None = None, seed: int = 0) -> TwoSample:
    """Can a classifier tell (x, z*) from (x, z) with z ~ q(z | x)?

    A logistic regression is trained on one half of the rows. In the other half its score ranks the truth among the draws.
    The statistic is the share of draws that score below the truth of their row. Its null is that of
    ``simulation_based_calibration``, which is exact for every classifier.

    The features are quadratic: the coordinates r of z, centred and scaled by the mean and deviation of their row's draws,
    their squares and products, and the products of r with the row's means and with five principal components of x (at most
    100 products of each kind, drawn at random). Further quantities, such as log p(x, z), may be columns of ``truth`` and
    ``draws``.

    Args:
        truth, draws: as of ``simulation_based_calibration``, 40 rows at least.
        x: (N, D), NaN where missing.

    Raises:
        ShapeError, DataError: shapes that do not fit, too few rows or draws, NaN.

    Source: Lopez-Paz and Oquab (2017), "Revisiting classifier two-sample tests"; ranks within rows are ours.

    >>> rng = np.random.default_rng(0)
    >>> mean = rng.normal(size=(400, 1))
    >>> truth, draws = mean + rng.normal(size=(400, 1)), mean + 0.5 * rng.normal(size=(99, 400, 1))
    >>> result = classifier_two_sample(truth, draws)
    >>> result.p_value, result.accuracy > 0.6
    (0.001, True)
    """
    rng = generator(seed)
    members = members_of(truth, draws)
    rows = members.shape[1]
    if rows < 40:
        raise DataError(f"truth must have at least 40 rows, half of them to train on; got {rows}")
    features = _Features(members, _context(x, rows), rng)
    order = rng.permutation(rows)
    training, tested = order[: rows // 2], order[rows // 2 :]
    scores = _scores(features, training, tested, rng)
    counts = exchange_counts(ranks_of(scores[:, :, None], rng), rng)[:, 0]
    size = counts.shape[1]
    mean = counts @ np.arange(size) / len(tested) / (size - 1)
    (p,), limit = corrected_p_values(mean[:, None])
    return TwoSample(tensor(counts[0]), float(p), limit, features.number)


class _Features:
    """The features of the classifier, for any member of each row."""

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


def _context(x: Array | None, rows: int) -> np.ndarray:
    """Scores of the first principal components of x, (N, at most 5), each of deviation 1."""
    if x is None:
        return np.zeros((rows, 0))
    values = array_of("x", x)
    if values.ndim != 2 or len(values) != rows or not values.size:
        raise ShapeError(f"x must have shape (N, D) with the N={rows} rows of truth; got {values.shape}")
    seen = np.isfinite(values)
    count = seen.sum(0).clip(1)
    values = np.where(seen, values, 0.0)
    values = np.where(seen, values - values.sum(0) / count, 0.0)
    scale = np.sqrt(np.square(values).sum(0) / count)
    left, size, _ = np.linalg.svd(values / np.where(scale > 0, scale, 1.0), full_matrices=False)
    kept = size[:_COMPONENTS] > 1e-8 * max(size[0], 1e-300)
    return left[:, :_COMPONENTS][:, kept] * rows**0.5


def _scores(
    features: _Features, training: np.ndarray, tested: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The scores of all members of the tested rows, (1 + L, N/2)."""
    from sklearn.linear_model import LogisticRegression

    draws = len(features.residual) - 1
    positive = features.of(0, training)
    negative = [
        features.of(rng.integers(1, draws + 1, len(training)), training) for _ in range(_LEARNED_FROM)
    ]
    every = np.concatenate([positive, *negative])
    centre, scale = every.mean(0), every.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    labels = np.repeat([1, 0], [len(training), len(training) * _LEARNED_FROM])
    weights = np.where(labels == 1, 1.0, 1.0 / _LEARNED_FROM)
    classifier = LogisticRegression(C=_STRENGTH, max_iter=500)
    classifier.fit((every - centre) / scale, labels, weights)
    direction = classifier.coef_[0] / scale
    return np.stack([features.of(member, tested) @ direction for member in range(1 + draws)])
