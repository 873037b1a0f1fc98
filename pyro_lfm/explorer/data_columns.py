"""``DataColumn``: one column of what is known of the rows, for the colours of the map and the comparison of chosen rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from pyro_lfm.errors import DataError, ShapeError

# A column with more labels shows no groups, such as one of names.
LABELS = 60
# Whole numbers of so few different values are shown as labels.
_FEW = 20


@dataclass(frozen=True, eq=False)
class NamedCodes:
    """Labels in an order of their own: codes 0, 1, ..., (N,), and what they stand for. As an array they are the names."""

    codes: np.ndarray
    names: tuple[str, ...]

    def __array__(self, dtype: None = None, copy: bool | None = None) -> np.ndarray:
        named: np.ndarray = np.array(self.names, dtype=object)[self.codes]
        return named


@dataclass(frozen=True)
class DataColumn:
    """N values of one column, numbers or codes of labels.

    Attributes:
        name: of the column.
        labels: what codes 0, 1, ... stand for; None of numbers.
        values: gives the values, (N,), NaN where missing.
    """

    name: str
    labels: tuple[str, ...] | None
    values: Callable[[], np.ndarray]

    @property
    def kind(self) -> Literal["number", "category"]:
        return "number" if self.labels is None else "category"


def column_of(name: str, given: object, rows: int) -> DataColumn | None:
    """A column of values that the user has, such as labels: N numbers, truth values or texts. None if it shows nothing.

    A column shows nothing where it is empty or has more than 60 labels, as names of rows have.

    Raises:
        ShapeError: not one value for each row. DataError: values of another kind.

    >>> column = column_of("species", ["cat", "dog", None, "cat"], 4)
    >>> column.labels, column.values()
    (('cat', 'dog'), array([ 0.,  1., nan,  0.], dtype=float32))
    """
    values = _array(name, given)
    if values.shape != (rows,):
        raise ShapeError(f"{name} must have a value for each of the {rows} rows; got shape {values.shape}")
    if values.dtype.kind == "M":
        values = values.astype("datetime64[D]")
    numbers = _numbers(name, values)
    if numbers is not None:
        known = numbers[~np.isnan(numbers)]
        if not len(known):
            return None
        levels = np.unique(known)
        if len(levels) > _FEW or (levels != np.round(levels)).any():
            return DataColumn(name, None, lambda: numbers)
        codes = np.searchsorted(levels, numbers).astype(np.float32)
        codes[np.isnan(numbers)] = np.nan
        return DataColumn(name, tuple(f"{level:.0f}" for level in levels), lambda: codes)
    return _of_labels(name, values, _order(given))


def _order(given: object) -> list[str]:
    """The order of labels, where the user's values have one."""
    if isinstance(given, NamedCodes):
        return [*given.names]
    categories = getattr(getattr(given, "cat", None), "categories", ())
    return [str(category) for category in categories]


def _of_labels(name: str, values: np.ndarray, order: list[str]) -> DataColumn | None:
    texts = ["" if _is_missing(value) else str(value) for value in values.tolist()]
    used = {text for text in texts if text}
    labels = [label for label in order if label in used] or sorted(used)
    if not 1 <= len(labels) <= LABELS:
        return None
    places = {label: float(code) for code, label in enumerate(labels)}
    codes = np.array([places.get(text, np.nan) for text in texts], dtype=np.float32)
    return DataColumn(name, tuple(labels), lambda: codes)


def _array(name: str, given: object) -> np.ndarray:
    if isinstance(given, torch.Tensor):
        given = given.detach().cpu().numpy()
    if hasattr(given, "cat"):  # a pandas category, whose codes have an order of their own
        given = given.astype(object)  # type: ignore[attr-defined]
    try:
        values = np.asarray(given.to_numpy() if hasattr(given, "to_numpy") else given)
        if values.dtype.kind in "US":
            values = values.astype(object)
    except (ValueError, TypeError):
        raise DataError(
            f"{name} must hold one number or label for each row; got {type(given).__name__}"
        ) from None
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def _numbers(name: str, values: np.ndarray) -> np.ndarray | None:
    """Numbers as float32, NaN where missing or infinite; None for labels."""
    if values.dtype.kind in "biuf":
        numbers = values.astype(np.float32)
    elif values.dtype.kind == "O":
        known = [value for value in values.tolist() if not _is_missing(value)]
        if not all(
            isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in known
        ):
            return None
        numbers = np.array(
            [np.nan if _is_missing(v) else float(v) for v in values.tolist()], dtype=np.float32
        )
    elif values.dtype.kind == "M":
        return _of_dates(values)
    else:
        raise DataError(f"{name} must hold numbers or labels; got dtype {values.dtype}")
    return np.where(np.isfinite(numbers), numbers, np.float32(np.nan))


def _of_dates(days: np.ndarray) -> np.ndarray | None:
    """Days as years with a fraction; None for few different ones, which are labels."""
    known = ~np.isnat(days)
    if len(np.unique(days[known])) <= _FEW:
        return None
    years = (1970 + days.astype(np.float64) / 365.2425).astype(np.float32)
    return np.where(known, years, np.float32(np.nan))


def _is_missing(value: object) -> bool:
    """None, NaN, NA and NaT: what is not equal to itself, or has no truth."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except TypeError:
        return True
