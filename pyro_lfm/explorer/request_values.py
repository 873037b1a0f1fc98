"""The values of requests to the explorer: numbers, places of rows, values by name, rows as the page has them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyro_lfm.evaluate.decoding.covariate_entries import CovariateEntry
from pyro_lfm.web.json_requests import Request
from pyro_lfm.web.refusal import Json, Refusal, misnamed, shown

if TYPE_CHECKING:
    from pyro_lfm.explorer.views.choosing import View


def numbers(value: Json, name: str, size: int, gaps: bool = False) -> np.ndarray:
    """A list of so many finite numbers, (size,); with ``gaps`` null stands for a missing one, NaN.

    >>> numbers([1, 2.5], "z", 2)
    array([1. , 2.5])
    """
    if not isinstance(value, list) or len(value) != size:
        raise Refusal(f"{name} must be a list of {size} numbers; got {shown(value)}")
    read = np.empty(size)
    for place, each in enumerate(value):
        if each is None and gaps:
            read[place] = math.nan
            continue
        read[place] = number(each, f"{name}[{place}]")
    return read


def number(value: Json, name: str) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refusal(f"{name} must be a number; got {shown(value)}")
    try:
        read = float(value)
    except OverflowError:
        read = math.inf
    if not math.isfinite(read):
        raise Refusal(f"{name} must be a finite number; got one beyond 1.8e308")
    return read


def code(value: Json, name: str, labels: Sequence[object]) -> int:
    """The code of a label, 0, 1, ..."""
    read = number(value, name)
    if read != int(read) or not 0 <= read < len(labels):
        raise Refusal(
            f"{name} must be the code of one of its {len(labels)} labels, from 0; got {shown(value)}"
        )
    return int(read)


def place_of_row(value: Json, rows: int) -> int:
    """The place of a row."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < rows:
        raise Refusal(f"row must be a whole number from 0 to {rows - 1}; got {shown(value)}")
    return value


def places_of_rows(request: Request, rows: int) -> np.ndarray:
    """The places of some rows, each once, in the order that was asked for."""
    value = request.get("rows")
    if not isinstance(value, list) or not 1 <= len(value) <= rows:
        raise Refusal(f"rows must be a list of 1 to {rows} places of rows; got {shown(value)}")
    places = np.array([place_of_row(each, rows) for each in value], dtype=np.int64)
    if len(np.unique(places)) < len(places):
        raise Refusal("rows must name each row once; got one twice")
    return places


def by_name(request: Request, field: str, known: Sequence[str]) -> dict[str, Json]:
    """A field that is an object with some of the known names; empty where it was left out."""
    value = request.get(field)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refusal(f"{field} must be an object of values by name; got {shown(value)}")
    unknown = [name for name in value if name not in known]
    if unknown:
        raise misnamed(
            f"{field} may have the names" if known else f"{field} must be empty: there are none",
            [*known],
            [],
            unknown,
        )
    return value


def covariates_of(request: Request, entries: Sequence[CovariateEntry]) -> dict[str, object]:
    """The values of covariates by the names of their entries: labels for the codes that the page sends, numbers."""
    given = by_name(request, "covariates", [entry.name for entry in entries])
    values: dict[str, object] = {}
    for entry in entries:
        if given.get(entry.name) is not None:
            value, name = given[entry.name], f"covariates.{entry.name}"
            labels = entry.labels
            values[entry.name] = number(value, name) if labels is None else labels[code(value, name, labels)]
    return values


def rows_of_views(request: Request, views: Sequence[View]) -> list[np.ndarray]:
    """The values of one row for each view, (D,), NaN where missing."""
    value = request.get("views")
    if not isinstance(value, list) or len(value) != len(views):
        raise Refusal(
            f"views must be a list of {len(views)}, the values of a row for each view; got {shown(value)}"
        )
    return [
        numbers(each, f"views[{place}]", view.size, gaps=True)
        for place, (each, view) in enumerate(zip(value, views, strict=True))
    ]
