"""The values of one column in JSON, as numbers and back: ``Numbers`` of any shape, and ``Labels``."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from itertools import chain
from typing import Protocol, cast

import numpy as np
from torch import Tensor

from pyro_lfm.web.refusal import Json, Refusal, listed, shown


class Cells(Protocol):
    """The values of one column in JSON, one for each row; null means missing."""

    def schema(self) -> dict[str, Json]:
        """The JSON schema of one value."""

    def read(self, key: str, values: list[Json]) -> np.ndarray:
        """The values as numbers, (N, *shape), NaN where missing.

        Raises:
            Refusal: a value of another kind, with its place.
        """

    def write(self, values: Tensor) -> list[Json]:
        """Values (N, *shape) for JSON."""

    def write_means(self, means: Tensor) -> list[Json]:
        """Means of the values, (N, *shape), for JSON; of labels the probability of each, (N, categories)."""


class Numbers:
    """Numbers, or nested lists of numbers of one shape.

    Args:
        shape: of the value of a row.
        truths: whether true and false may stand for 1 and 0.
    """

    def __init__(self, shape: Sequence[int] = (), truths: bool = False):
        self.shape = tuple(shape)
        self.kinds = {int, float, type(None)} | ({bool} if truths else set())
        self.words = "numbers, true, false or null" if truths else "numbers or null"

    def schema(self) -> dict[str, Json]:
        kinds: list[Json] = ["number", "null"]
        schema: dict[str, Json] = {"type": [*kinds, "boolean"] if bool in self.kinds else kinds}
        for size in reversed(self.shape):
            schema = {"type": "array", "items": schema, "minItems": size, "maxItems": size}
        return schema

    def read(self, key: str, values: list[Json]) -> np.ndarray:
        flat: list[Json] = values
        sizes: list[int] = [len(values)]
        for size in self._shape_of(values):
            fault = next((i for i, v in enumerate(flat) if type(v) is not list or len(v) != size), None)
            if fault is not None:
                of = f"{size} values" if len(sizes) == 1 else f"shape {self.shape}"
                raise Refusal(
                    f"{key} must have {of} in each row; got {shown(flat[fault])} in {_place(fault, sizes)}"
                )
            flat = [*chain.from_iterable(cast("list[list[Json]]", flat))]
            sizes.append(size)
        if not set(map(type, flat)) <= self.kinds:
            fault = next(i for i, v in enumerate(flat) if type(v) not in self.kinds)
            raise Refusal(f"{key} must hold {self.words}; got {shown(flat[fault])} in {_place(fault, sizes)}")
        try:
            numbers = np.array(flat, dtype=np.float64)
        except OverflowError:  # a whole number, which Python holds
            numbers = np.array([np.inf])
        if np.isinf(numbers).any():
            raise Refusal(f"{key} must hold finite numbers or null; got one beyond 1.8e308")
        return numbers.reshape(len(values), *self.shape)

    def _shape_of(self, values: list[Json]) -> tuple[int, ...]:
        """The shape that is expected: a column of one entry may come with its brackets or without."""
        if self.shape in ((), (1,)):
            return (1,) if type(values[0]) is list else ()
        return self.shape

    def write(self, values: Tensor) -> list[Json]:
        return as_json(values)

    def write_means(self, means: Tensor) -> list[Json]:
        return as_json(means)


class Labels:
    """Labels, each of which has a code 0, 1, ...

    Args:
        labels: in the order of their codes. Those that JSON has no type for are written as strings.
    """

    def __init__(self, labels: Sequence[Hashable]):
        self.labels = [label_as_json(label) for label in labels]
        self.codes = {label: float(code) for code, label in enumerate(self.labels)}

    def schema(self) -> dict[str, Json]:
        return {"enum": [*self.labels, None]}

    def read(self, key: str, values: list[Json]) -> np.ndarray:
        # A column of one entry may come with its brackets.
        flat = [v[0] if type(v) is list and len(v) == 1 else v for v in values]
        codes: list[float] = []
        for row, value in enumerate(flat):
            if value is None:
                codes.append(math.nan)
            elif not isinstance(value, list | dict) and value in self.codes:
                codes.append(self.codes[value])
            else:
                names = listed([str(label) for label in self.labels])
                raise Refusal(
                    f"{key} must have one of the labels {names}, or null; got {shown(value)} in row {row}"
                )
        return np.array(codes, dtype=np.float64)

    def write(self, values: Tensor) -> list[Json]:
        return [None if math.isnan(code) else self.labels[int(code)] for code in values.reshape(-1).tolist()]

    def write_means(self, means: Tensor) -> list[Json]:
        if means.numel() == len(means):  # levels in an order have a mean code
            return as_json(means)
        rows = as_json(means.reshape(len(means), -1))
        names = [str(label) for label in self.labels]
        # A model may declare more categories than the rows had labels.
        return [
            dict(zip([*names, *(f"category {k}" for k in range(len(names), len(row)))], row, strict=True))
            for row in cast("list[list[Json]]", rows)
        ]


def label_as_json(label: Hashable) -> None | bool | int | float | str:
    """A label as JSON has it: strings, numbers and truth values as they are, all others as strings.

    >>> label_as_json(np.int64(3)), label_as_json((1, 2))
    (3, '(1, 2)')
    """
    value = label.item() if isinstance(label, np.generic) else label
    return value if isinstance(value, bool | int | float | str) else str(value)


def as_json(values: Tensor) -> list[Json]:
    """The numbers of a tensor, with null for NaN and infinity, which JSON does not have.

    >>> import torch
    >>> as_json(torch.tensor([1.0, torch.nan]))
    [1.0, None]
    """
    values = values.detach().cpu()
    numbers = cast("list[Json]", values.tolist())
    return numbers if bool(values.isfinite().all()) else cast("list[Json]", _with_nulls(numbers))


def _with_nulls(value: Json) -> Json:
    if isinstance(value, list):
        return [_with_nulls(each) for each in value]
    return value if isinstance(value, float) and math.isfinite(value) else None


def _place(index: int, sizes: list[int]) -> str:
    """The place of a value that is the ``index``-th of an array of these sizes."""
    row, *entry = (int(i) for i in np.unravel_index(index, sizes))
    if not entry:
        return f"row {row}"
    return f"row {row}, entry {entry[0] if len(entry) == 1 else tuple(entry)}"
