"""One column of a DataFrame: its kind, its values as numbers, and back; the parts of a ``Heterogeneous``."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_lfm.data.remedies import remedy_for_strays, stray_texts
from pyro_lfm.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Column:
    """A column of the frame that ``heterogeneous`` read.

    Attributes:
        name: the column's name in the frame.
        kind: continuous, positive, count, binary, categorical, ordinal, or "own" if the user gave a factor for it.
        why: the reason for this kind, in words.
        dtype: the pandas dtype.
        levels: the values of a binary, categorical or ordinal column, in the order of their codes 0, 1, ...; else None.
        loc, scale: an encoded number is (x − loc) / scale.
        whole: whether its numbers are whole, so that decoded ones are rounded.
    """

    name: Hashable
    kind: str
    why: str
    dtype: Any  # of NumPy or of pandas
    levels: pd.Index | None = None
    loc: float = 0.0
    scale: float = 1.0
    whole: bool = False

    def encode(self, series: pd.Series) -> np.ndarray:
        """Values (N,) as floats, missing ones NaN.

        Raises:
            DataError: a value without a code, or one that the column's kind cannot have.
        """
        if self.levels is None:
            values = numbers(series)
            self._check(values, series)
            return (values - self.loc) / self.scale
        missing = series.isna().to_numpy()
        codes = self.levels.get_indexer(series.astype(object))
        unknown = ~missing & (codes < 0)
        if unknown.any():
            value = series[unknown].iloc[0]
            raise DataError(
                f"column {self.name!r} must take one of the values {first_few(self.levels)}; got {value!r}: values that the "
                "table did not have when it was read have no code. Write them as missing, or read a table that has them"
            )
        return np.where(missing, np.nan, codes.astype(float))

    def _check(self, values: np.ndarray, series: pd.Series) -> None:
        """Raises DataError at a number that the kind cannot have."""
        condition, outside = {
            "positive": ("be above 0", values <= 0),
            "count": ("be whole numbers of at least 0", (values < 0) | (values != np.round(values))),
        }.get(self.kind, ("", np.zeros(len(values), dtype=bool)))
        outside &= ~np.isnan(values)
        if outside.any():
            row = int(outside.argmax())
            more = f" (and {int(outside.sum()) - 1} more)" if outside.sum() > 1 else ""
            raise DataError(
                f"column {self.name!r} must {condition}, as it was when the table was read ({self.kind}); got "
                f"{series.iloc[row]} in row {row}{more}: write it as missing (None), or read a table in which the column is "
                f'kinds={{{self.name!r}: "continuous"}}'
            )

    def restored(self, decoded: pd.Series, values: np.ndarray, series: pd.Series) -> pd.Series:
        """Decoded values, with the original cells, bit for bit, wherever a value is the code of its cell.

        Args:
            decoded: what ``decode`` made of the values.
            values: encoded values, (N,).
            series: the original column, of as many rows.
        """
        kept = self.encode(series).astype(values.dtype) == values
        return decoded.where(~kept, series.set_axis(decoded.index))

    def decode(self, values: np.ndarray) -> pd.Series:
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
            return series.infer_objects()  # the dtype cannot hold a missing value
        return series.astype(self.dtype)


def numbers(series: pd.Series) -> np.ndarray:
    """The values of a numeric column as floats, missing ones NaN."""
    try:
        values = series.to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError):
        if (strays := stray_texts(series)) is not None:
            raise DataError(
                f"column {series.name!r} must hold numbers for its kind; got {strays}: {remedy_for_strays(series)}"
            ) from None
        raise DataError(
            f"column {series.name!r} must hold numbers for its kind; got dtype {series.dtype}: give numbers, or "
            f'kinds={{{series.name!r}: "categorical"}}'
        ) from None
    if np.isinf(values).any():
        raise DataError(
            f"column {series.name!r} must be finite; got {int(np.isinf(values).sum())} infinite values: write missing "
            "values as nan"
        )
    return values


def first_few(levels: pd.Index, most: int = 4) -> str:
    """The first values, for messages."""
    shown = ", ".join(
        f"{level:g}" if isinstance(level, float) else str(level) for level in list(levels)[:most]
    )
    return f"{shown}, ..." if len(levels) > most else shown
