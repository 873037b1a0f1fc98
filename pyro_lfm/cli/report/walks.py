"""What each factor does: the expected row, in its own units, as one factor moves through its values in the rows."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pyro_lfm.errors import DeclarationError
from pyro_lfm.evaluate.decoding.decoded_columns import DecodedColumn, ObservedColumn, observed_columns
from pyro_lfm.evaluate.decoding.decoded_rows import RowDecoder
from pyro_lfm.evaluate.decoding.factor_order import factor_order
from pyro_lfm.evaluate.decoding.factor_paths import FactorPaths

if TYPE_CHECKING:
    from pyro_lfm.inference import Fit

# The quantiles of a factor that are shown.
LEVELS = (0.02, 0.16, 0.5, 0.84, 0.98)
# Columns of a table that are shown, those that a factor moves most.
_MOST = 12


@dataclass(frozen=True, eq=False)
class ColumnWalk:
    """A column as a factor moves.

    Attributes:
        column: its name. texts: its value at each place, in its own units. ranges: the interval of 90%, in words.
        effect: how far it moves, in standard deviations of the column, or in probability.
        moves: at each place, relative to the middle, in the same.
        is_label: whether it holds labels, whose moves have no sign.
    """

    column: str
    texts: list[str]
    ranges: list[str]
    effect: float
    moves: list[float]
    is_label: bool = False


class Walks:
    """The walks along all factors of a fit.

    Args:
        fit: the fit. rows: those that the report is of, for a fit without rows.

    Attributes:
        names: of the factors, by the variance that they explain, largest first.

    Raises:
        DeclarationError: the model has no factors with real values.
    """

    def __init__(self, fit: Fit, rows: Any = None):
        self.decoder = RowDecoder(fit)
        if not self.decoder.names:
            raise DeclarationError("walks need latents of each row with real values; this model has none")
        self.names = factor_order(fit, rows).ranked
        self.paths = FactorPaths(self.decoder, rows)
        self.columns = observed_columns(self.decoder)

    def of(self, name: str) -> list[ColumnWalk]:
        """The columns that a factor moves most, first the one that it moves most."""
        k = self.decoder.names.index(name)
        values = self.paths.quantiles(k, torch.tensor(LEVELS))
        decoded = self.decoder(self.paths.along(k, values))
        walks = [_column_walk(column, column.of(decoded)) for column in self.columns]
        return sorted(walks, key=lambda walk: -walk.effect)[:_MOST]


def _column_walk(column: ObservedColumn, decoded: DecodedColumn) -> ColumnWalk:
    middle = len(LEVELS) // 2
    if decoded.probabilities is not None and column.kind == "category":
        shares = decoded.probabilities.cpu().numpy()
        labels = [str(label) for label in column.labels or range(shares.shape[1])]
        best = np.ones(len(shares), int) if len(labels) == 2 else shares.argmax(1)
        texts = [f"{labels[b]} {100 * shares[i, b]:.0f}%" for i, b in enumerate(best)]
        apart = shares - shares[middle]
        moves = (apart[:, 1] if len(labels) == 2 else 0.5 * np.abs(apart).sum(1)).tolist()
        return ColumnWalk(column.name, texts, [""] * len(texts), _largest(moves), moves, len(labels) > 2)
    mean = decoded.mean.cpu().numpy()
    spread = column.spread if column.spread > 0 else 1.0
    moves = ((mean - mean[middle]) / spread).tolist()
    ends = zip(decoded.lower.tolist(), decoded.upper.tolist(), strict=True)
    words = [f"90%: {_value(column, low)} to {_value(column, high)}" for low, high in ends]
    return ColumnWalk(column.name, [_value(column, v) for v in mean.tolist()], words, _largest(moves), moves)


def _value(column: ObservedColumn, value: float) -> str:
    if column.labels is not None:
        return str(column.labels[int(np.clip(round(value), 0, len(column.labels) - 1))])
    return f"{value:.4g}".replace("-", "−")


def _largest(moves: list[float]) -> float:
    return float(np.max(np.abs(moves)))


def walk_table(walks: list[ColumnWalk]) -> str:
    """Walks of columns as a table of HTML, the darker the further from the middle."""
    heads = "".join(f"<th class=n>{100 * level:.0f}%</th>" for level in LEVELS)
    rows = []
    for walk in walks:
        cells = "".join(
            f'<td style="background:{_shade(move, walk.is_label)}" title="{escape(words)}">{escape(text)}</td>'
            for text, words, move in zip(walk.texts, walk.ranges, walk.moves, strict=True)
        )
        rows.append(f"<tr><td>{escape(walk.column)}</td>{cells}</tr>")
    return (
        f'<div class="wide"><table class="walk"><thead><tr><th>column</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _shade(move: float, is_label: bool) -> str:
    """Blue below the middle, orange above it, green for labels; the stronger the further."""
    strength = min(abs(move) / 2.0, 1.0)
    if strength < 0.02:
        return "transparent"
    colour = "0,158,115" if is_label else "0,114,178" if move < 0 else "213,94,0"
    return f"rgba({colour},{0.06 + 0.34 * strength:.2f})"
