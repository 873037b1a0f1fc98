"""The colours of the points of a map: classes with names, or numbers on a scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyro_lfm.errors import DataError, ShapeError
from pyro_lfm.evaluate.inputs import Array
from pyro_lfm.plots.style import CLASSES, as_array

if TYPE_CHECKING:
    from matplotlib.colors import Normalize

# Whole numbers with more values than this are a scale; colours of classes repeat, with another marker, after ten.
_MOST_CLASSES = 20
_MARKERS = ("o", "^", "s", "D")
_MISSING = "#c8c8c8"


@dataclass(frozen=True)
class MapColours:
    """What the points of a map are coloured by.

    Attributes:
        values: (N,), codes 0, 1, ... of classes, or numbers; NaN where missing.
        names: of the classes; None of numbers.
        title: what the values are; None where that is not known.
    """

    values: np.ndarray
    names: tuple[str, ...] | None
    title: str | None

    @property
    def present(self) -> list[int]:
        """The codes of the classes that some point has."""
        return [int(code) for code in np.unique(self.values[~np.isnan(self.values)])]

    def shades(self) -> np.ndarray:
        """The colour of each point, (N, 4)."""
        from matplotlib import colormaps
        from matplotlib.colors import to_rgba_array

        missing = np.isnan(self.values)
        shades = np.repeat(to_rgba_array(_MISSING), len(self.values), 0)
        if self.names is not None:
            table = to_rgba_array([CLASSES[code % len(CLASSES)] for code in range(len(self.names))])
            shades[~missing] = table[self.values[~missing].astype(int)]
        else:
            shades[~missing] = colormaps["viridis"](self.scale()(self.values[~missing]))
        return shades

    def scale(self) -> Normalize:
        """The numbers of the first and last colours: the 1st and 99th percentile, so that a few do not hide others."""
        from matplotlib.colors import Normalize

        known = self.values[~np.isnan(self.values)]
        low, high = np.quantile(known, [0.01, 0.99]) if len(known) else (0.0, 1.0)
        return Normalize(low, high if high > low else low + 1.0, clip=True)

    def markers(self) -> np.ndarray:
        """The marker of each point, (N,)."""
        codes = (
            np.zeros(len(self.values), int) if self.names is None else np.nan_to_num(self.values).astype(int)
        )
        return np.array(_MARKERS)[codes // len(CLASSES) % len(_MARKERS)]


def map_colours(labels: Array, rows: int, names: Sequence[str] | None, colour: str | None) -> MapColours:
    """Reads labels: text and few whole numbers are classes, other numbers a scale.

    Raises:
        ShapeError: not one for each row, or too few names. DataError: neither labels nor numbers.
    """
    title = colour if colour is not None else getattr(labels, "name", None)
    values = _as_values(labels)
    if values.ndim != 1 or len(values) != rows:
        raise ShapeError(f"labels must have shape ({rows},), one per row; got {values.shape}")
    if values.dtype.kind not in "fiub":
        return _of_text(values, None if title is None else str(title))
    numbers = values.astype(float)
    known = numbers[~np.isnan(numbers)]
    if np.isinf(known).any():
        raise DataError("labels must be finite, or NaN where they are missing; got infinite ones")
    whole = bool((known == np.floor(known)).all() and (known >= 0).all())
    if names is not None and (not whole or (len(known) and known.max() >= len(names))):
        most = int(known.max()) + 1 if whole else 0
        raise ShapeError(
            f"names must name {most or 'the'} classes of labels 0, 1, ...; got {len(names)} names"
        )
    if whole and (names is not None or len(np.unique(known)) <= _MOST_CLASSES):
        count = int(known.max()) + 1 if len(known) else 0
        named = tuple(map(str, names if names is not None else range(count)))
        return MapColours(numbers, named, None if title is None else str(title))
    return MapColours(numbers, None, None if title is None else str(title))


def _as_values(labels: Array) -> np.ndarray:
    try:
        return as_array(labels)
    except (TypeError, ValueError, RuntimeError):
        raise ShapeError(
            f"labels must be one for each row: whole numbers, text, or numbers; got {type(labels).__name__}"
        ) from None


def _of_text(values: np.ndarray, title: str | None) -> MapColours:
    missing = np.array([value is None or value != value for value in values.tolist()])
    texts = np.array([str(value) for value in values.tolist()])
    known, codes = np.unique(texts[~missing], return_inverse=True)
    if len(known) > _MOST_CLASSES * 2:
        raise DataError(
            f"labels must be classes, or numbers; got {len(known)} different texts in {len(values)} rows"
        )
    numbers = np.full(len(values), np.nan)
    numbers[~missing] = codes
    return MapColours(numbers, tuple(known.tolist()), title)
