"""Tables of several views with hidden entries, and the score of their predictions. NumPy alone, for every environment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Table:
    """Views of the same rows.

    Attributes:
        kinds: of each view, "gaussian", "bernoulli" or "poisson".
        values: (N, D) each, NaN where hidden. truth: the same with all entries.
    """

    kinds: tuple[str, ...]
    values: tuple[np.ndarray, ...]
    truth: tuple[np.ndarray, ...]

    def save(self, path: Path) -> None:
        parts = zip(self.values, self.truth, strict=True)
        arrays = {f"{name}{k}": x for k, pair in enumerate(parts) for name, x in zip("vt", pair, strict=True)}
        np.savez(path, kinds=np.array(self.kinds), **arrays)

    @classmethod
    def load(cls, path: Path | str) -> Table:
        with np.load(path) as arrays:
            kinds = tuple(map(str, arrays["kinds"]))
            values, truth = (tuple(arrays[f"{name}{k}"] for k in range(len(kinds))) for name in "vt")
        return cls(kinds, values, truth)


def simulated(rows: int, columns: Sequence[tuple[str, int]], factors: int, hidden: float) -> Table:
    """Views of common factors, without intercepts, which MOFA has for Gaussian views alone.

    Args:
        columns: kind and number of columns of each view. hidden: the share of hidden entries.
    """
    rng = np.random.default_rng(0)
    z = rng.standard_normal((rows, factors))
    values, truth = [], []
    for kind, dim in columns:
        signal = z @ rng.standard_normal((factors, dim)) * (1.5 / np.sqrt(factors))
        if kind == "gaussian":
            x = signal + rng.standard_normal((rows, dim)) * np.linspace(0.5, 2, dim)
        elif kind == "bernoulli":
            x = (rng.random((rows, dim)) < 1 / (1 + np.exp(-1.5 * signal))).astype(float)
        else:
            x = rng.poisson(np.logaddexp(0, 1.5 * signal)).astype(float)
        truth.append(x)
        values.append(np.where(rng.random(x.shape) < hidden, np.nan, x))
    return Table(tuple(kind for kind, _ in columns), tuple(values), tuple(truth))


def hidden_nats(table: Table, means: list[np.ndarray]) -> float:
    """The code length of the hidden entries in nats per entry, from their predicted means (N, D): smaller is better.

    Of numbers ½ ln(2πe · mean squared error), the length under a Gaussian of the best variance, column by column; of binary
    entries and counts −ln p under Bernoulli and Poisson distributions of these means.
    """
    total, entries = 0.0, 0
    for kind, values, truth, mean in zip(table.kinds, table.values, table.truth, means, strict=True):
        hidden = np.isnan(values)
        if kind == "gaussian":
            error = np.where(hidden, mean - truth, 0.0)
            squares = (error**2).sum(0) / hidden.sum(0)
            total += float((0.5 * np.log(2 * np.pi * np.e * squares) * hidden.sum(0)).sum())
        elif kind == "bernoulli":
            p = np.clip(mean, 1e-9, 1 - 1e-9)
            total -= float(np.where(truth == 1, np.log(p), np.log1p(-p))[hidden].sum())
        else:
            rate = np.maximum(mean, 1e-9)
            factorials = np.cumsum(np.log(np.maximum(np.arange(int(truth.max()) + 1), 1)))
            total -= float((truth * np.log(rate) - rate - factorials[truth.astype(int)])[hidden].sum())
        entries += int(hidden.sum())
    return total / entries
