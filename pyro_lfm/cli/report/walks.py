"""What each factor does: E[x | z] in the units of the data, as one factor moves and the others stay at the prior's mean."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pyro_lfm.cli.fit_measures import column_names
from pyro_lfm.data.batch import Batch
from pyro_lfm.evaluate.decoding.decoder import Decoder
from pyro_lfm.probes import evaluating
from pyro_lfm.runtime import Stream, isolated

if TYPE_CHECKING:
    from pyro_lfm.inference import Fit

PLACES = (-2.0, -1.0, 0.0, 1.0, 2.0)
# Columns of a table that are shown, those that a factor moves most.
_MOST = 12


@dataclass(frozen=True, eq=False)
class ColumnWalk:
    """A column as a factor moves.

    Attributes:
        column: its name. texts: its value at each place, in its own units.
        effect: how far it moves, in standard deviations of the column, or in probability.
        moves: at each place, relative to the middle, in the same.
        is_label: whether it holds labels, whose moves have no sign.
    """

    column: str
    texts: list[str]
    effect: float
    moves: list[float]
    is_label: bool = False


class Walks:
    """The walks along all factors of a fit.

    Raises:
        DeclarationError: the model has no factors with real values, or a likelihood without a mean.
    """

    def __init__(self, fit: Fit):
        self.fit, self.decoder = fit, Decoder(fit.model, "pyro-lfm report")
        self.names = self.decoder.names
        count = len(self.names)
        centre, spread = self._prior_moments()
        points = centre.repeat(count, len(PLACES), 1)
        for k in range(count):
            points[k, :, k] += spread[k] * torch.tensor(PLACES).to(centre)
        batch = Batch(size=count * len(PLACES))
        batch.index = batch.index.to(fit.model.device)
        others = self._others()
        device = fit.model.device
        with evaluating(fit.model), isolated(Stream(0, device), device), torch.no_grad():
            means = self.decoder(points.flatten(0, 1), others, batch)
        self.means = {n: m.double().reshape(count, len(PLACES), -1).cpu().numpy() for n, m in means.items()}

    def _prior_moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of each factor under the model, (K,) each."""
        drawn = self.fit.model.sample(2000, seed=0)
        flat = torch.cat([drawn[name].reshape(2000, -1) for name in self.decoder.factors], 1)
        return flat.mean(0), flat.std(0)

    def _others(self) -> dict[str, torch.Tensor]:
        """Latents that all rows share, at their posterior means."""
        shared = [name for name, latent in self.fit.model.latents.items() if not latent.per_row]
        if not shared:
            return {}
        empty = {n: torch.full((1, *v.shape), torch.nan) for n, v in self.fit.model.observed.items()}
        posterior = self.fit.posterior(empty)
        return {name: posterior[name].mean for name in shared}

    def of(self, k: int) -> list[ColumnWalk]:
        """The columns that factor k moves most, first the one that it moves most."""
        walks = [walk for name in self.means for walk in self._of_variable(name, k)]
        return sorted(walks, key=lambda walk: -walk.effect)[:_MOST]

    @property
    def effects(self) -> list[float]:
        """The root mean square over columns of the effects of each factor."""
        return [
            float(np.sqrt(np.mean([w.effect**2 for n in self.means for w in self._of_variable(n, k)])))
            for k in range(len(self.names))
        ]

    def _of_variable(self, name: str, k: int) -> list[ColumnWalk]:
        means = self.means[name][k]
        converter: Any = self.fit.table
        variable = self.fit.model.observed[name]
        if not variable.shape and means.shape[1] > 1:
            return [self._of_labels(name, means)]
        entries = means.shape[1]
        names = column_names(self.fit, name, entries)
        columns = {} if converter is None else {str(column.name): column for column in converter.columns}
        spreads = self._spreads(name, entries)
        return [
            _of_numbers(column, means[:, d], columns.get(column), spreads[d])
            for d, column in enumerate(names)
        ]

    def _of_labels(self, name: str, means: np.ndarray) -> ColumnWalk:
        labels = self._labels(name, means.shape[1])
        best = means.argmax(1)
        texts = [f"{labels[b]} {100 * means[i, b]:.0f}%" for i, b in enumerate(best)]
        moves = (0.5 * np.abs(means - means[len(PLACES) // 2]).sum(1)).tolist()
        return ColumnWalk(column_names(self.fit, name, 1)[0], texts, max(moves), moves, True)

    def _labels(self, name: str, count: int) -> list[str]:
        converter: Any = self.fit.table
        if converter is not None:
            (column,) = (c for c in converter.columns if c.name in converter.groups[name])
            return [str(level) for level in column.levels]
        known = self.fit.schema[name].labels if name in self.fit.schema else None
        return [str(label) for label in known] if known is not None else [str(c) for c in range(count)]

    def _spreads(self, name: str, entries: int) -> np.ndarray:
        """The standard deviation of each column of the fitted rows, in the units of the model."""
        scale = self.fit.schema[name].scale if name in self.fit.schema else None
        if scale is None:
            return np.ones(entries)
        spread = np.asarray(torch.as_tensor(scale.spread).double().reshape(-1).cpu())
        spread = np.resize(spread, entries)
        return np.where(spread > 0, spread, 1.0)


def _of_numbers(name: str, values: np.ndarray, column: Any, spread: float) -> ColumnWalk:
    """The walk of a column of numbers, of levels, or of 0 and 1."""
    middle = values[len(PLACES) // 2]
    if column is not None and column.kind == "binary":
        texts = [f"{column.levels[1]} {100 * v:.0f}%" for v in values]
        moves = (values - middle).tolist()
    elif column is not None and column.levels is not None:
        codes = np.clip(values.round().astype(int), 0, len(column.levels) - 1)
        texts = [str(column.levels[code]) for code in codes]
        moves = ((values - middle) / spread).tolist()
    else:
        own = values if column is None else values * column.scale + column.loc
        texts = [f"{v:.4g}".replace("-", "−") for v in own]
        moves = ((values - middle) / spread).tolist()
    return ColumnWalk(name, texts, float(np.max(np.abs(moves))), moves)


def walk_table(walks: list[ColumnWalk]) -> str:
    """Walks of columns as a table of HTML, the darker the further from the middle."""
    heads = "".join(f"<th class=n>{place:+.0f}</th>".replace("-", "−").replace("+0", "0") for place in PLACES)
    rows = []
    for walk in walks:
        cells = "".join(
            f'<td style="background:{_shade(move, walk.is_label)}">{escape(text)}</td>'
            for text, move in zip(walk.texts, walk.moves, strict=True)
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
