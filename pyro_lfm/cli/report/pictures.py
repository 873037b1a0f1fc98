"""Rows that are pictures: their shape, reconstructions and walks, for the report."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pyro_lfm.cli.fit_measures import is_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pyro_lfm.inference import Fit

# Pixels of the smallest picture, pictures of a row, and factors that are shown.
_LEAST, _MOST, _FACTORS = 36, 12, 10


@dataclass(frozen=True, eq=False)
class Pictures:
    """The one observed variable of a fit, if its rows look like pictures.

    Attributes:
        shape: (H, W) or (C, H, W). low, high: the values that are white and black. rows: some rows, (B, D).
    """

    shape: tuple[int, ...]
    low: float
    high: float
    rows: torch.Tensor

    @staticmethod
    def of(fit: Fit, rows: Any) -> Pictures | None:
        """The pictures of some rows; None where they are none: columns with names are no pixels."""
        if len(fit.model.observed) != 1 or fit.table is not None:
            return None
        ((name, variable),) = fit.model.observed.items()
        own = fit.schema.get(name)
        shape = _picture_shape(tuple(variable.shape), own is not None and own.names is not None)
        if shape is None or (is_label(fit, name) and not _is_binary(fit, name)):
            return None
        batch = fit.rows_of(rows)
        values = batch.with_gaps(name)[:2000].double().reshape(min(2000, batch.size), -1)
        known = values[~values.isnan()]
        low, high = (float(known.min()), float(known.max())) if known.numel() else (0.0, 1.0)
        return Pictures(shape, low, max(high, low + 1e-9), values[:_MOST].float())

    def scaled(self, values: torch.Tensor) -> torch.Tensor:
        """Values in [0, 1], missing ones white."""
        return ((values.double() - self.low) / (self.high - self.low)).clamp(0, 1).nan_to_num(0.0)

    def reconstructed(self, fit: Fit) -> Figure:
        """Some rows, and their reconstructions below."""
        import pyro_lfm as lfm

        (variable,) = fit.model.observed.values()
        shaped = self.rows.reshape(len(self.rows), *variable.shape)
        again = fit.reconstruct(shaped).reshape(len(self.rows), -1).cpu()
        return lfm.plots.reconstructions(
            self.scaled(self.rows), {"reconstructed": self.scaled(again)}, shape=self.shape, title=None
        )

    def walk(self, fit: Fit, rows: Any) -> Figure:
        """A row of pictures for each factor, the one that explains most variance first."""
        import pyro_lfm as lfm

        return lfm.plots.factor_walk(fit, data=rows, shape=self.shape, factors=_FACTORS, title=None)


def _picture_shape(event: tuple[int, ...], has_names: bool) -> tuple[int, ...] | None:
    if len(event) == 2 or (len(event) == 3 and event[0] in (1, 3)):
        return event
    side = math.isqrt(event[0]) if len(event) == 1 else 0
    return (side, side) if side * side == event[0] >= _LEAST and not has_names else None if event else None


def _is_binary(fit: Fit, name: str) -> bool:
    from torch.distributions import constraints

    from pyro_lfm.distributions.supports import entrywise

    return isinstance(entrywise(fit.model.observed[name].support), type(constraints.boolean))
