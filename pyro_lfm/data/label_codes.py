"""Labels as codes: strings and pandas categories become the numbers 0, 1, ... of their categories, for readers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from pyro_lfm.errors import DataError


@dataclass(frozen=True)
class Labels:
    """A column of labels.

    Attributes:
        codes: (N,), the place of each row's label among ``values``; −1 where it is missing.
        values: the different labels, in the order of their codes.
        ordered: whether they have an order, as in an ordered category of pandas.
    """

    codes: np.ndarray
    values: tuple[Hashable, ...]
    ordered: bool = False


def labels_of(values: Sequence[Hashable]) -> Labels:
    """The labels of some rows, sorted if they can be; None and NaN mean missing.

    >>> labels_of(["b", "a", None, "b"])
    Labels(codes=array([ 1,  0, -1,  1]), values=('a', 'b'), ordered=False)
    """
    present = {value for value in values if not _is_missing(value)}
    try:
        distinct = sorted(present)  # type: ignore[type-var]
    except TypeError:
        distinct = sorted(present, key=lambda value: (type(value).__name__, str(value)))
    codes = {value: code for code, value in enumerate(distinct)}
    return Labels(
        np.array([-1 if _is_missing(value) else codes[value] for value in values], dtype=np.int64),
        tuple(distinct),
    )


def _is_missing(value: Hashable) -> bool:
    # NaN and NaT are not equal to themselves, and for NA of pandas the comparison is no bool.
    same = value == value
    return value is None or not isinstance(same, bool | np.bool_) or not same


def encode(
    name: str, labels: Labels, categories: int, fitted: tuple[Hashable, ...] | None, ordered: bool = False
) -> tuple[np.ndarray, tuple[Hashable, ...] | None]:
    """The codes (N,) of labels, NaN where missing, and the labels that the codes stand for (None if they came as codes).

    Args:
        categories: the number of categories that the model declares.
        fitted: the labels of the codes in the rows of a fit; None if they came as codes, or before any fit.
        ordered: whether the categories have an order, which strings do not show.

    Raises:
        DataError: labels that the fit did not have, more labels than categories, or labels without an order.
    """
    used = sorted(set(labels.codes[labels.codes >= 0].tolist()))
    if fitted is None:
        if all(_is_code(value, categories) for value in labels.values):
            # The labels are codes already. Some codes may not occur.
            return _place(labels, {value: int(cast(int, value)) for value in labels.values}), None
        if ordered and not labels.ordered:
            raise DataError(
                f"{name} has levels in an order, which its labels do not show: {_shown(labels.values)}; give codes "
                f"0..{categories - 1}, or a pandas category with ordered=True"
            )
        fitted = (
            labels.values if len(labels.values) <= categories else tuple(labels.values[code] for code in used)
        )
        if len(fitted) > categories:
            raise DataError(
                f"{name} has {categories} categories; got {len(fitted)} labels, {_shown(fitted)}: declare "
                f"Categorical({len(fitted)}), or join some of them"
            )
    codes = {value: code for code, value in enumerate(fitted)}
    unknown = [labels.values[code] for code in used if labels.values[code] not in codes]
    if unknown:
        raise DataError(
            f"{name} must have labels that were fitted, {_shown(fitted)}; unknown: {_shown(unknown)}: join them with "
            "others, leave these rows out, or fit rows that have them"
        )
    return _place(labels, codes), fitted


def _place(labels: Labels, codes: dict[Hashable, int]) -> np.ndarray:
    places = np.array([codes.get(value, -1) for value in labels.values] + [np.nan], dtype=np.float64)
    return places[labels.codes]


def _is_code(value: Hashable, categories: int) -> bool:
    return (
        isinstance(value, int | np.integer) and not isinstance(value, bool) and 0 <= int(value) < categories
    )


def _shown(values: Sequence[Hashable], most: int = 8) -> str:
    return ", ".join(map(repr, values[:most])) + (", ..." if len(values) > most else "")
