"""What the rows of a fit were: names of columns, labels and scale; rows that come later are put in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pyro_lfm.errors import DataError


@dataclass(frozen=True)
class Scale:
    """Where the observed entries of each column lie.

    Attributes:
        mean, spread, largest: (D,) of the flattened entries of a row: mean, standard deviation and largest absolute
            value, in float64; NaN, NaN and 0 for a column of which nothing was observed.
        rounding: (D,) the spread that numbers of one value may have by the rounding of the type in which they came.
    """

    mean: Tensor
    spread: Tensor
    largest: Tensor
    rounding: Tensor

    @property
    def is_constant(self) -> Tensor:
        """(D,) whether the entries of a column are one number, up to rounding; False where none was observed."""
        return self.spread <= self.rounding


@dataclass(frozen=True)
class Columns:
    """What is known of the rows of one name.

    Attributes:
        names: of the entries of a row, in order, as a DataFrame, a structured array or AnnData has them; None where the
            rows came without names.
        labels: what the codes 0, 1, ... of a label stand for; None where the rows were numbers.
        categories: how many categories a label has; None where rows are no labels.
        ordered: whether those have an order.
        covariate: whether it is known of each row and not modelled.
        scale: where its numbers lie; None before they were looked at.
    """

    names: tuple[Any, ...] | None = None
    labels: tuple[Any, ...] | None = None
    categories: int | None = None
    ordered: bool = False
    covariate: bool = False
    scale: Scale | None = None

    def place(self, entry: int) -> str:
        """A column in words: its name, or its number."""
        return str(entry) if self.names is None else repr(self.names[entry])


# What is known of all rows, by name.
Schema = Mapping[str, Columns]


def order_of(name: str, names: Sequence[Any], fitted: Sequence[Any] | None) -> list[int] | None:
    """Where each fitted column stands among the columns that are given; None where they need no other order.

    Raises:
        DataError: a column that stands there twice, is missing or unknown.

    >>> order_of("x", ["b", "a"], ["a", "b"])
    [1, 0]
    """
    twice = (
        list(dict.fromkeys(column for column in names if list(names).count(column) > 1))
        if (len(set(names)) < len(names))
        else []
    )
    if twice:
        raise DataError(
            f"{name} must have each column once; twice or more: {_listed(twice)}: rename or drop them"
        )
    if fitted is None or tuple(names) == tuple(fitted):
        return None
    places = {column: place for place, column in enumerate(names)}
    known = set(fitted)
    missing = [column for column in fitted if column not in places]
    unknown = [column for column in names if column not in known]
    if missing or unknown:
        faults = [f"missing: {_listed(missing)}"] * bool(missing) + [f"unknown: {_listed(unknown)}"] * bool(
            unknown
        )
        raise DataError(
            f"{name} must have the columns that were fitted, in any order: {_listed(fitted)}; {'; '.join(faults)}. Select "
            "or rename columns, or give an array, whose columns are taken by position"
        )
    return [places[column] for column in fitted]


def _listed(columns: Sequence[Any], most: int = 20) -> str:
    shown = ", ".join(map(repr, columns[:most]))
    return f"{shown}, ... ({len(columns)} in all)" if len(columns) > most else shown
