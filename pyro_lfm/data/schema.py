"""The columns of the rows of a fit: names, labels and scale. Later rows are put in their order."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from pyro_lfm.errors import DataError


@dataclass(frozen=True)
class Scale:
    """Location and spread of the observed entries of each column.

    Attributes:
        mean, spread, largest: mean, standard deviation and largest absolute value, (D,) of the flattened entries of a row,
            in float64; NaN, NaN and 0 for a column without an observed entry.
        rounding: (D,) the spread that equal numbers may have by the rounding of their type.
    """

    mean: Tensor
    spread: Tensor
    largest: Tensor
    rounding: Tensor

    @property
    def is_constant(self) -> Tensor:
        """(D,) whether all entries of a column are equal, up to rounding; False if none was observed."""
        return self.spread <= self.rounding


@dataclass(frozen=True)
class Columns:
    """The columns of the rows of one name.

    Attributes:
        names: the names of the entries of a row, from a DataFrame, a structured array or AnnData; None without names.
        labels: the labels that the codes 0, 1, ... stand for; None if the rows were numbers.
        categories: the number of categories of a label; None if the rows are no labels.
        ordered: whether the categories have an order.
        covariate: whether the rows are a covariate, which is known and not modelled.
        scale: location and spread; None before the rows were validated.
    """

    names: tuple[Hashable, ...] | None = None
    labels: tuple[Hashable, ...] | None = None
    categories: int | None = None
    ordered: bool = False
    covariate: bool = False
    scale: Scale | None = None

    def place(self, entry: int) -> str:
        """The name of a column for messages, or its number if it has no name."""
        return str(entry) if self.names is None else repr(self.names[entry])


# The columns of all rows, by name.
Schema = Mapping[str, Columns]


def order_of(name: str, names: Sequence[Hashable], fitted: Sequence[Hashable] | None) -> list[int] | None:
    """The place of each fitted column among the given columns; None if they are in this order already.

    Raises:
        DataError: a column occurs twice, is missing or is unknown.

    >>> order_of("x", ["b", "a"], ["a", "b"])
    [1, 0]
    """
    if len(set(names)) < len(names):
        twice = list(dict.fromkeys(column for column in names if list(names).count(column) > 1))
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
            "or rename columns, or give an array: its columns are taken by position"
        )
    return [places[column] for column in fitted]


def _listed(columns: Sequence[Hashable], most: int = 20) -> str:
    shown = ", ".join(map(repr, columns[:most]))
    return f"{shown}, ... ({len(columns)} in all)" if len(columns) > most else shown
