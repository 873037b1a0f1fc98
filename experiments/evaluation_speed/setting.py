"""The autoencoder of a query, its weights as arrays, and the rows asked about. NumPy alone, for every environment."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

HIDDEN = 0.2  # of the entries, for imputation


@dataclass(frozen=True)
class Query:
    """A task of so many rows and draws, asked of an autoencoder columns-hidden-latent.

    Attributes:
        task: "importance", "annealed", "posterior", "reconstruct" or "impute".
        likelihood: "Bernoulli", or "Gaussian" with a standard deviation for each column.
    """

    task: str
    columns: int
    hidden: int
    latent: int
    rows: int
    draws: int = 1
    likelihood: str = "Gaussian"
    temperatures: int = 100

    @property
    def name(self) -> str:
        draws = f" × {self.draws:,} draws" if self.draws > 1 else ""
        return f"{self.task}, {self.columns}-{self.hidden}-{self.latent}, {self.rows:,} rows{draws}"

    def dict(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class Weights:
    """encoder, decoder: (weight (in, hidden), bias, weight (hidden, out), bias). scale: (D,), of a Gaussian likelihood.

    The encoder gives the mean of q(z | x), and r with the standard deviation floor + softplus(r).
    """

    encoder: tuple[np.ndarray, ...]
    decoder: tuple[np.ndarray, ...]
    scale: np.ndarray
    floor: float = 1e-3


def weights_of(query: Query) -> Weights:
    """Random weights, whose decoder has outputs of a variance near one."""
    rng = np.random.default_rng(0)

    def layer(inputs: int, outputs: int, gain: float) -> list[np.ndarray]:
        weight = rng.standard_normal((inputs, outputs)) * gain / np.sqrt(inputs)
        return [weight.astype(np.float32), (0.1 * rng.standard_normal(outputs)).astype(np.float32)]

    encoder = layer(query.columns, query.hidden, 1.0) + layer(query.hidden, 2 * query.latent, 0.3)
    decoder = layer(query.latent, query.hidden, 1.4) + layer(query.hidden, query.columns, 1.0)
    return Weights(tuple(encoder), tuple(decoder), np.linspace(0.8, 1.2, query.columns, dtype=np.float32))


def rows_of(query: Query) -> np.ndarray:
    """Rows near those of the model, (N, D) float32, made in blocks; NaN where an entry is hidden."""
    rng, weights = np.random.default_rng(1), weights_of(query)
    first, bias, last, shift = weights.decoder
    x = np.empty((query.rows, query.columns), np.float32)
    for start in range(0, query.rows, 10_000):
        part = x[start : start + 10_000]
        z = rng.standard_normal((len(part), query.latent), dtype=np.float32)
        part[:] = np.maximum(z @ first + bias, 0) @ last + shift
        if query.likelihood == "Bernoulli":
            part[:] = rng.random(part.shape, np.float32) < 1 / (1 + np.exp(-part))
        else:
            part += weights.scale * rng.standard_normal(part.shape, dtype=np.float32)
        if query.task == "impute":
            part[rng.random(part.shape, np.float32) < HIDDEN] = np.nan
    return x
