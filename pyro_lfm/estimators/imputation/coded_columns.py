"""The columns of a table as numbers that a model reads, and imputed numbers as cells of the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pyro_lfm.data.remedies import remedy_for_strays, stray_texts
from pyro_lfm.errors import DataError
from pyro_lfm.estimators.imputation.scales import Numbers

if TYPE_CHECKING:
    import pandas as pd

# Labels with more levels than this, and than half of the rows, name rows: nothing can be learned of them.
_LEVELS = 20


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers. Its code is the number.

    Attributes:
        whole: whether cells can only be whole numbers, as in pandas' Int64.
    """

    name: Any
    whole: bool = False
    width: int = 1

    def encode(self, column: pd.Series) -> Numbers:
        try:
            numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError):
            raise DataError(
                f"column {self.name!r} must hold numbers, as in fit; got {_example(column)}"
            ) from None
        if np.isinf(numbers).any():
            raise DataError(
                f"column {self.name!r} must hold finite numbers; got infinity: replace it by NaN, which means missing"
            )
        return numbers[:, None]

    def decode(self, codes: Numbers) -> NDArray[Any]:
        """The cells of codes (M, 1)."""
        return codes[:, 0].round() if self.whole else codes[:, 0]


@dataclass(frozen=True)
class LabelColumn:
    """A column of labels. Its code is 0 or 1 for each level. Labels that ``fit`` has not seen have no code."""

    name: Any
    levels: tuple[Any, ...]

    @property
    def width(self) -> int:
        return len(self.levels)

    def encode(self, column: pd.Series) -> Numbers:
        place = {level: k for k, level in enumerate(self.levels)}
        known = column.notna().to_numpy()
        codes = np.full((len(column), len(self.levels)), np.nan)
        for row, label in enumerate(column.astype(object)):
            if known[row] and label in place:
                codes[row] = 0.0
                codes[row, place[label]] = 1.0
        return codes

    def decode(self, codes: Numbers) -> NDArray[Any]:
        """The labels of codes (M, levels): the largest code."""
        levels = np.empty(len(self.levels), dtype=object)
        levels[:] = self.levels
        return levels[codes.argmax(1)]


Column: TypeAlias = NumberColumn | LabelColumn


def column_of(column: pd.Series) -> Column:
    """A column with the kind of its dtype: numbers, or labels for strings, categories, booleans and objects.

    Raises:
        DataError: times, complex numbers, or labels that name rows.
    """
    from pandas.api import types

    if types.is_datetime64_any_dtype(column) or types.is_timedelta64_dtype(column):
        raise DataError(
            f"column {column.name!r} must hold numbers or labels; got times (dtype {column.dtype}): give the days since "
            "the first, as (t - t.min()) / numpy.timedelta64(1, 'D') does"
        )
    if types.is_complex_dtype(column):
        raise DataError(
            f"column {column.name!r} holds complex data: give real and imaginary part as two columns"
        )
    if types.is_numeric_dtype(column) and not types.is_bool_dtype(column):
        return NumberColumn(column.name, whole=types.is_integer_dtype(column))
    present = column.dropna()
    try:
        levels = list(present.unique())
    except TypeError:
        raise DataError(
            f"column {column.name!r} must hold numbers or labels; got {_example(present)}"
        ) from None
    if all(isinstance(level, (int, float, np.number)) and not isinstance(level, bool) for level in levels):
        return NumberColumn(column.name)
    if len(levels) > max(_LEVELS, len(present) // 2):
        if (strays := stray_texts(column)) is not None:
            raise DataError(
                f"column {column.name!r} must hold numbers or labels; got {strays}: {remedy_for_strays(column)}"
            )
        raise DataError(
            f"column {column.name!r} has {len(levels)} different labels in {len(present)} rows: leave it out if it names "
            "rows; pandas.to_numeric reads numbers in quotation marks"
        )
    try:
        levels = sorted(levels)
    except TypeError:
        levels = sorted(levels, key=str)
    return LabelColumn(column.name, tuple(levels))


@dataclass(frozen=True)
class Columns:
    """The columns of a frame in their order, and the codes of its rows."""

    columns: tuple[Column, ...]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Columns:
        return cls(tuple(column_of(frame.iloc[:, k]) for k in range(frame.shape[1])))

    @classmethod
    def of_numbers(cls, count: int) -> Columns:
        """The columns of an array."""
        return cls(tuple(NumberColumn(k) for k in range(count)))

    @property
    def groups(self) -> list[range]:
        """The numbers of the codes of each column."""
        ends = np.cumsum([0, *(column.width for column in self.columns)])
        return [range(start, end) for start, end in zip(ends[:-1], ends[1:], strict=True)]

    @property
    def labels(self) -> dict[LabelColumn, range]:
        """The columns of labels, with the numbers of their codes."""
        pairs = zip(self.columns, self.groups, strict=True)
        return {column: group for column, group in pairs if isinstance(column, LabelColumn)}

    def encode(self, frame: pd.DataFrame) -> Numbers:
        """The codes (N, P) of the rows, NaN where a cell is missing.

        Raises:
            DataError: infinite numbers, or labels in a column of numbers.
        """
        parts = [column.encode(frame.iloc[:, k]) for k, column in enumerate(self.columns)]
        return np.concatenate(parts, 1) if parts else np.empty((len(frame), 0))

    def filled(self, frame: pd.DataFrame, codes: Numbers) -> pd.DataFrame:
        """The frame with imputed cells in its missing ones. All other cells and the dtypes stay as they are."""
        import pandas as pd

        out = []
        for k, (column, group) in enumerate(zip(self.columns, self.groups, strict=True)):
            cells = frame.iloc[:, k]
            missing = cells.isna().to_numpy()
            if missing.any():
                cells = cells.copy()
                cells[missing] = _cast(column.decode(codes[missing][:, list(group)]), cells)
            out.append(cells)
        result = pd.concat(out, axis=1) if out else frame.iloc[:, :0].copy()
        result.columns = frame.columns
        return result


def _cast(values: NDArray[Any], cells: pd.Series) -> Any:
    """Imputed values that a column can hold without a change of its dtype."""
    if isinstance(cells.dtype, np.dtype) and cells.dtype.kind == "f":
        return values.astype(cells.dtype)
    return values


def _example(column: pd.Series | Sequence[Any]) -> str:
    for value in column:
        if isinstance(value, str) or not isinstance(value, (int, float, np.number)):
            return repr(value)[:40]
    return "other values"
