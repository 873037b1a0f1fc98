"""``PictureView``: an observed variable whose entries are the pixels of a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pyro_lfm.errors import DeclarationError
from pyro_lfm.evaluate.decoding.entry_summaries import EntrySummaries
from pyro_lfm.explorer.numbers_as_json import short
from pyro_lfm.web.refusal import Json

# A square of so many pixels or more is taken for a picture where nothing says what the columns are.
_LEAST = 49


@dataclass(frozen=True, eq=False)
class PictureView:
    """Pictures of one variable.

    Attributes:
        name: of the variable.
        shape: (C, H, W), C 1 or 3.
        last: whether the variable has its channels last, (H, W, C).
        low, high: the values of the darkest and the brightest pixel.
        ink: whether pictures of one channel are ink on paper: most of each is paper, at the low value.
    """

    name: str
    shape: tuple[int, int, int]
    last: bool
    low: float
    high: float
    ink: bool

    @property
    def size(self) -> int:
        """The number of values of a row."""
        return int(np.prod(self.shape))

    def info(self) -> dict[str, Json]:
        return {
            "name": self.name,
            "kind": "picture",
            "shape": [*self.shape],
            "low": self.low,
            "high": self.high,
            "dark": self.ink,
        }

    def original(self, rows: Mapping[str, Tensor]) -> dict[str, Json]:
        """The first of some rows, (B, *event) by name."""
        return {"mean": short(self._first(rows[self.name].reshape(len(rows[self.name]), -1)))}

    def decoded(self, summaries: Mapping[str, EntrySummaries], row: int = 0) -> dict[str, Json]:
        """A decoded row: mean and standard deviation of each pixel."""
        summary = summaries[self.name]
        mean, deviation = summary.mean[row : row + 1], summary.deviation[row : row + 1]
        return {"mean": short(self._first(mean)), "deviation": short(self._first(deviation))}

    def read(self, values: np.ndarray, event: tuple[int, ...]) -> dict[str, Tensor]:
        """The row of the variable, (1, *event), of values (D,) as the page shows them, NaN where missing."""
        channels, height, width = self.shape
        if self.last:
            values = values.reshape(channels, height, width).transpose(1, 2, 0)
        return {self.name: torch.from_numpy(np.ascontiguousarray(values)).reshape(1, *event)}

    def _first(self, flat: Tensor) -> Tensor:
        """The first of the rows (B, D) with its channels first, (D,)."""
        channels, height, width = self.shape
        if not self.last:
            return flat[0]
        return flat[0].reshape(height, width, channels).permute(2, 0, 1).reshape(-1)


def picture_shape(
    event: tuple[int, ...], named: bool, given: tuple[int, ...] | None
) -> tuple[tuple[int, int, int], bool] | None:
    """(C, H, W) of the pictures that rows are, and whether their channels stand last; None where rows are no pictures.

    Args:
        event: the shape of a row.
        named: whether its columns have names.
        given: (H, W), (C, H, W) or (H, W, C), where the user or the data set says it.

    Raises:
        DeclarationError: a given shape of another number of entries.

    >>> picture_shape((64,), False, None), picture_shape((8, 8, 3), False, None), picture_shape((30,), False, None)
    (((1, 8, 8), False), ((3, 8, 8), True), None)
    """
    size = int(np.prod(event))
    if given is not None:
        shape = _with_channels(given)
        if shape is None or int(np.prod(shape[0])) != size:
            raise DeclarationError(
                f"shape must be (H, W) or (C, H, W) with 1 or 3 channels and {size} pixels in all, as rows have; got "
                f"{'x'.join(map(str, given))}"
            )
        return shape
    if len(event) > 1:
        return _with_channels(event)
    if named:
        return None
    for channels in (1, 3):
        side = round((size / channels) ** 0.5)
        if side * side * channels == size and side * side >= _LEAST:
            return (channels, side, side), False
    return None


def _with_channels(shape: tuple[int, ...]) -> tuple[tuple[int, int, int], bool] | None:
    if len(shape) == 2:
        return (1, shape[0], shape[1]), False
    if len(shape) == 3 and shape[0] in (1, 3):
        return (shape[0], shape[1], shape[2]), False
    if len(shape) == 3 and shape[2] in (1, 3):
        return (shape[2], shape[0], shape[1]), True
    return None


def pixel_range(low: float, high: float) -> tuple[float, float]:
    """The values of the darkest and the brightest pixel, of the least and largest values of the rows.

    >>> pixel_range(0.0, 0.97), pixel_range(0.0, 253.0), pixel_range(0.0, 16.0)
    ((0.0, 1.0), (0.0, 255.0), (0.0, 16.0))
    """
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    if low >= 0 and 200 < high <= 255:
        return 0.0, 255.0
    return min(low, 0.0), high if high > low else low + 1.0
