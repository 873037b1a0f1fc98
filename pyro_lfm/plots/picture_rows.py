"""Which variable of a fit holds pictures, their shape, and the values that are black and white."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.data.schema import Columns
from pyro_lfm.distributions.logistic import Grid
from pyro_lfm.distributions.supports import entrywise
from pyro_lfm.errors import ShapeError
from pyro_lfm.evaluate.decoding.decoded_rows import RowDecoder
from pyro_lfm.evaluate.inputs import Rows

# Rows that show the range of values; entries from which a row without names looks like a picture; rows drawn without rows.
_ROWS, _LEAST, _DRAWN = 500, 64, 50


@dataclass(frozen=True)
class PictureRows:
    """Rows that are pictures.

    Attributes:
        variable: the observed variable that holds them.
        shape: (H, W) or (C, H, W). low, high: the values drawn as 0 and 1.
    """

    variable: str
    shape: tuple[int, ...]
    low: float
    high: float

    def scaled(self, values: Tensor) -> Tensor:
        """Values (N, D) as pictures in [0, 1], (N, *shape)."""
        return ((values - self.low) / (self.high - self.low)).clamp(0, 1).reshape(len(values), *self.shape)


def picture_rows(decoder: RowDecoder, shape: Sequence[int] | None, data: Rows | None) -> PictureRows | None:
    """The variable of a fit that holds pictures; None where its rows are columns.

    Args:
        shape: of a picture, whose variable is the one with as many entries. Without it a variable whose events are (H, W),
            or (C, H, W) with one or three channels, holds pictures.

        data: rows of a fit that has none at hand, whose values are the range from white to black.

    Raises:
        ShapeError: no variable has that many entries, or a shape is needed.
    """
    model = decoder.model
    sizes = {name: model.observed[name].shape for name in decoder.observed}
    if shape is not None:
        shape = tuple(shape)
        fitting = [name for name, size in sizes.items() if size.numel() == math.prod(shape)]
        if not fitting or len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3)):
            offer = ", ".join(f"{name} has {size.numel()}" for name, size in sizes.items())
            raise ShapeError(
                f"shape must be (H, W), or (C, H, W) with one or three channels, of as many entries as a variable has; got "
                f"{shape} of {math.prod(shape)}: {offer}"
            )
        return PictureRows(fitting[0], shape, *_range(decoder, fitting[0], data))
    for name, size in sizes.items():
        if len(size) == 2 or (len(size) == 3 and size[0] in (1, 3)):
            return PictureRows(name, tuple(size), *_range(decoder, name, data))
    for name, size in sizes.items():
        named = decoder.fit.table is not None or decoder.fit.schema.get(name, Columns()).names is not None
        if len(sizes) == 1 and size.numel() >= _LEAST and not named:
            example = _example(size.numel())
            raise ShapeError(
                f"{name} are flat rows of {size.numel()} entries: give the picture's shape, as in shape={example}, "
                "or the rows as a DataFrame, whose columns have names"
            )
    return None


def _example(entries: int) -> str:
    """A shape that so many entries may have."""
    for channels, before in ((1, ""), (3, "3, ")):
        side = math.isqrt(entries // channels)
        if channels * side * side == entries:
            return f"({before}{side}, {side})"
    return "(H, W)"


def _range(decoder: RowDecoder, name: str, data: Rows | None) -> tuple[float, float]:
    """The values drawn as 0 and 1: these themselves where all values of the rows lie between them, else their extremes."""
    support = entrywise(decoder.model.observed[name].support)
    if isinstance(support, Grid):
        return support.low, support.high
    if float(getattr(support, "lower_bound", 1.0)) == 0 and float(getattr(support, "upper_bound", 2.0)) == 1:
        return 0.0, 1.0
    batch = decoder.fit.some_rows(_ROWS)
    if batch is None and data is not None:
        batch = decoder.fit.some_rows(_ROWS, data)
    values = _decoded(decoder, name) if batch is None else batch.with_gaps(name)
    known = values[~values.isnan()]
    low, high = (float(known.min()), float(known.max())) if known.numel() else (0.0, 1.0)
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, high if high > low else low + 1.0


def _decoded(decoder: RowDecoder, name: str) -> Tensor:
    """The means of rows that the model draws, in place of rows."""
    drawn = decoder.prior_draws(_DRAWN)
    flat = [drawn[latent].reshape(_DRAWN, -1) for latent in decoder.factors]
    z = torch.cat(flat, 1) if flat else torch.zeros(_DRAWN, 0)
    return decoder.means(z, labels={label: drawn[label] for label in decoder.labels})[name]
