"""One column of a table: its kind, how its values become numbers, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pyro_lfm.errors import DataError


@dataclass(frozen=True)
class Column:
    """A column as it was when the table was read.

    Attributes:
        name: in the frame.
        kind: continuous, positive, count, binary, categorical, ordinal, or that a factor of its own reads it ("own").
        why: it is taken for that, in words.
        dtype: pandas'.
        levels: the values of a binary, categorical or ordinal column, in the order of their codes 0, 1, ...; else None.
        loc, scale: an encoded number is (x − loc) / scale.
        whole: whether its numbers are whole, so that decoded ones are rounded.
    """

    name: Any
    kind: str
    why: str
    dtype: Any
    levels: Any = None
    loc: float = 0.0
    scale: float = 1.0
    whole: bool = False

    def encode(self, series: Any) -> np.ndarray:
        """Values (N,) as floats, missing ones NaN.

        Raises:
            DataError: a value that has no code, or that the column's kind cannot have.
        """
        if self.levels is None:
            values = numbers(series)
            self._check(values, series)
            return (values - self.loc) / self.scale
        missing = series.isna().to_numpy()
        codes = self.levels.get_indexer(series.astype(object))
        unknown = ~missing & (codes < 0)
        if unknown.any():
            found = series[unknown].iloc[0]
            raise DataError(
                f"column {self.name!r} must take one of the values {words(self.levels)}; got {found!r}: values that the "
                "table did not have when it was read have no code, write them as missing or read a table that has them"
            )
        return np.where(missing, np.nan, codes.astype(float))

    def _check(self, values: np.ndarray, series: Any) -> None:
        """Numbers that the kind can have, in the user's own units."""
        asks, outside = {
            "positive": ("be above 0", values <= 0),
            "count": ("be whole numbers of at least 0", (values < 0) | (values != np.round(values))),
        }.get(self.kind, ("", np.zeros(len(values), dtype=bool)))
        # NaN is unequal to itself, and missing.
        outside &= ~np.isnan(values)
        if outside.any():
            row = int(outside.argmax())
            more = f" (and {int(outside.sum()) - 1} more)" if outside.sum() > 1 else ""
            raise DataError(
                f"column {self.name!r} must {asks}, as it was when the table was read ({self.kind}); got "
                f"{series.iloc[row]} in row {row}{more}: write it as missing (None), or read a table in which the column is "
                f'kinds={{{self.name!r}: "continuous"}}'
            )

    def restored(self, decoded: Any, values: np.ndarray, series: Any) -> Any:
        """Decoded values with the cells of a column in their place wherever they have their codes: bit for bit.

        Args:
            values: (N,), that were decoded. series: the column as it came, of as many rows.
        """
        kept = self.encode(series).astype(values.dtype) == values
        return decoded.where(~kept, series.set_axis(decoded.index))

    def decode(self, values: np.ndarray) -> Any:
        """The column in the user's units and labels, of encoded values (N,)."""
        import pandas as pd

        missing = np.isnan(values)
        if self.levels is not None:
            codes = np.where(missing, 0, values).round().astype(int)
            series = pd.Series(self.levels.take(codes), dtype=object).mask(missing)
        else:
            series = pd.Series(values * self.scale + self.loc)
            series = series.round() if self.whole else series
        if missing.any() and getattr(self.dtype, "kind", "O") in "biu" and isinstance(self.dtype, np.dtype):
            return series.infer_objects()  # which cannot hold a missing value
        return series.astype(self.dtype)


def numbers(series: Any) -> np.ndarray:
    """The values of a numeric column as floats, missing ones NaN."""
    try:
        found = series.to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError):
        raise DataError(
            f"column {series.name!r} must hold numbers for the kind it has; got dtype {series.dtype}: give numbers, or "
            f'kinds={{{series.name!r}: "categorical"}}'
        ) from None
    if np.isinf(found).any():
        raise DataError(
            f"column {series.name!r} must be finite; got {int(np.isinf(found).sum())} infinite values: write missing "
            "values as nan"
        )
    return found


def words(levels: Any, most: int = 4) -> str:
    """The first few of some values."""
    shown = ", ".join(str(level) for level in list(levels)[:most])
    return f"{shown}, ..." if len(levels) > most else shown
