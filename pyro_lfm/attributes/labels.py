"""Labels of rows as attributes with a kind: two values, several categories, or numbers; for ``fit`` and its targets."""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from pyro_lfm.data.label_codes import labels_of
from pyro_lfm.errors import DataError, ShapeError
from pyro_lfm.evaluate.inputs import Array

Kind: TypeAlias = Literal["binary", "category", "number"]
# The value of an attribute that is asked for: a label, or a number.
Target: TypeAlias = Hashable
# The fewest rows of each label. The most different whole numbers that are taken for categories.
_FEWEST, _MOST_CODES = 5, 20


@dataclass(frozen=True)
class Attribute:
    """What the labels of one attribute are.

    Attributes:
        name: its name. kind: "binary", "category" or "number".
        labels: the labels of a binary attribute or of categories, in the order of their codes; () of a number.
        low, high: the smallest and the largest number among the labels; 0 and the largest code of labels.
    """

    name: str
    kind: Kind
    labels: tuple[Hashable, ...]
    low: float
    high: float

    @property
    def columns(self) -> int:
        """The number of outputs of a reader: one of a number or of two values, else one for each category."""
        return len(self.labels) if self.kind == "category" else 1

    @property
    def range(self) -> float:
        return self.high - self.low

    def code(self, value: Target) -> float:
        """A target as a number or the code of a label.

        Raises:
            DataError: an unknown label, or a number outside the range of the labels.
        """
        return self._number(value) if self.kind == "number" else self._label(value)

    def _number(self, value: Target) -> float:
        plain = _plain(value)
        if isinstance(plain, bool) or not isinstance(plain, numbers.Real) or not np.isfinite(float(plain)):
            raise DataError(f"{self.name} is a number from {self.low:.4g} to {self.high:.4g}; got {value!r}")
        slack = 1e-6 * self.range
        if not self.low - slack <= float(plain) <= self.high + slack:
            raise DataError(
                f"{self.name} must be from {self.low:.4g} to {self.high:.4g}, the range of its labels; got "
                f"{float(plain):.4g}: beyond them rows would be guesses"
            )
        return float(plain)

    def _label(self, value: Target) -> float:
        plain = _plain(value)
        if plain in self.labels:
            return float(self.labels.index(plain))
        shown = ", ".join(map(repr, self.labels[:8])) + ", ..." * (len(self.labels) > 8)
        near = difflib.get_close_matches(str(plain), [str(label) for label in self.labels], 1)
        hint = (
            f"; did you mean {next(label for label in self.labels if str(label) == near[0])!r}?"
            if near
            else ""
        )
        raise DataError(f"{self.name} must be one of {shown}; got {value!r}{hint}")


@dataclass(frozen=True, eq=False)
class Labelled:
    """An attribute with its value in each row.

    Attributes:
        codes: (N,) numbers, or codes of labels, in double precision; NaN where missing.
    """

    attribute: Attribute
    codes: Tensor = field(repr=False)

    @property
    def known(self) -> Tensor:
        """(N,) whether the row has a label."""
        return ~self.codes.isnan()

    @property
    def mean(self) -> float:
        return float(self.codes[self.known].mean())

    @property
    def deviation(self) -> float:
        return float(self.codes[self.known].std())

    @property
    def standardised(self) -> Tensor:
        """Numbers minus their mean, divided by their deviation; codes of labels as they are."""
        return self.codes if self.attribute.labels else (self.codes - self.mean) / self.deviation


def read_labels(labels: Mapping[str, Array], rows: int) -> list[Labelled]:
    """The attributes of some rows, from {name: (N,)} labels.

    Two different values are binary. Strings, and at most 20 different whole numbers, are categories. The rest are numbers.

    Raises:
        DataError: no attribute, labels of another kind, too few of them. ShapeError: another number of rows.
    """
    if isinstance(getattr(labels, "columns", None), Iterable):
        labels = dict(labels.items())  # a DataFrame
    if not isinstance(labels, Mapping) or not labels:
        raise DataError(
            "labels must be {name: a label of each row}, with at least one name; got "
            f"{'{}' if isinstance(labels, Mapping) else type(labels).__name__}"
        )
    return [_read(str(name), values, rows) for name, values in labels.items()]


def check_names(targets: Mapping[str, Target], known: Iterable[str]) -> None:
    """Checks that targets name known attributes.

    Raises:
        DataError: no target, or an unknown name.
    """
    names = list(known)
    if not isinstance(targets, Mapping) or not targets:
        raise DataError(f"targets must be {{attribute: value}} of {', '.join(names)}; got {targets!r}")
    for name in targets:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise DataError(f"there is no attribute {name!r}: it must be one of {', '.join(names)}{hint}")


def _read(name: str, values: Array, rows: int) -> Labelled:
    column = _column(name, values)
    if len(column) != rows:
        raise ShapeError(
            f"labels of {name} must have shape ({rows},), one for each row, with None or NaN where there is none; "
            f"got ({len(column)},)"
        )
    coded = labels_of(column)
    counts = np.bincount(coded.codes[coded.codes >= 0], minlength=len(coded.values))
    if len(coded.values) < 2:
        raise DataError(
            f"labels of {name} must have at least two different values; got {len(coded.values)}: leave {name} out"
        )
    are_numbers = all(isinstance(v, numbers.Real) and not isinstance(v, bool) for v in coded.values)
    if are_numbers and not all(np.isfinite(float(v)) for v in coded.values):  # type: ignore[arg-type]
        raise DataError(f"labels of {name} must be finite, or NaN where missing; got infinite ones")
    if are_numbers and not _are_codes(coded.values):
        if (least := int(counts.sum())) < 2 * _FEWEST:
            raise DataError(f"labels of {name} must be of at least {2 * _FEWEST} rows; got {least}")
        lookup = np.array([*map(float, coded.values), np.nan])  # type: ignore[arg-type]
        return Labelled(
            Attribute(name, "number", (), float(lookup[:-1].min()), float(lookup[:-1].max())),
            torch.from_numpy(lookup[coded.codes]),
        )
    if counts.min() < _FEWEST:
        rare = coded.values[int(counts.argmin())]
        raise DataError(
            f"labels of {name} must have each value in at least {_FEWEST} rows; got {rare!r} in {counts.min()}: join it "
            "with another, or leave its rows without a label"
        )
    codes = torch.from_numpy(np.where(coded.codes < 0, np.nan, coded.codes.astype(np.float64)))
    kind: Kind = "binary" if len(coded.values) == 2 else "category"
    return Labelled(Attribute(name, kind, coded.values, 0.0, float(len(coded.values) - 1)), codes)


def _are_codes(values: tuple[Hashable, ...]) -> bool:
    """Whether numbers stand for categories: two values, or a few whole numbers."""
    whole = all(float(value).is_integer() for value in values)  # type: ignore[arg-type]
    return len(values) == 2 or (whole and len(values) <= _MOST_CODES)


def _column(name: str, values: Array) -> list[Hashable]:
    """A label of each row as Python values, None where missing."""
    plain = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    to_list = getattr(plain, "tolist", None) or getattr(plain, "to_list", None)
    try:
        listed = to_list() if to_list is not None else list(plain)  # type: ignore[arg-type]
        if not isinstance(listed, list):
            raise TypeError
        return [_plain(value) for value in listed]
    except TypeError:
        raise DataError(
            f"labels of {name} must be a tensor, an array or a list with one label for each row; got {type(values).__name__}"
        ) from None


def _plain(value: object) -> Hashable:
    """A scalar of torch or NumPy as Python's; NaN, NA and NaT as None."""
    if isinstance(value, Tensor | np.ndarray | np.generic) and np.size(value) == 1:
        value = value.item()
    hash(value)
    same = value == value
    return value if isinstance(same, bool) and same else None
