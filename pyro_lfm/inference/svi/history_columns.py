"""A history as columns, for checkpoints: a tensor for each kind of number, so that a long history stays a small file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, TypedDict

import torch

from pyro_lfm.errors import DataError

Record: TypeAlias = dict[str, Any]
_DTYPES = {int: torch.int64, float: torch.float64}
# Integers beyond stay as they are.
_LARGEST = 2**63


class Block(TypedDict):
    """Consecutive records of equal keys: by key a tensor of all values, or a list where not all are numbers of one kind."""

    records: int
    columns: dict[Any, torch.Tensor | list[Any]]


def columns_of(history: Sequence[Record]) -> list[Block]:
    """The records of a history in blocks.

    >>> columns_of([{"epoch": 1, "bound": -2.5}, {"epoch": 2, "bound": -2.0}])[0]["columns"]
    {'epoch': tensor([1, 2]), 'bound': tensor([-2.5000, -2.0000], dtype=torch.float64)}
    """
    blocks: list[list[Record]] = []
    for record in history:
        if not blocks or [*blocks[-1][0]] != [*record]:
            blocks.append([])
        blocks[-1].append(record)
    return [
        {
            "records": len(block),
            "columns": {key: _column([record[key] for record in block]) for key in block[0]},
        }
        for block in blocks
    ]


def records_of(blocks: Sequence[Block]) -> list[Record]:
    """The records of which ``columns_of`` made blocks.

    Raises:
        DataError: a column has not as many values as there are records.

    >>> records_of(columns_of([{"epoch": 1, "bound": -2.5}, {}]))
    [{'epoch': 1, 'bound': -2.5}, {}]
    """
    history: list[Record] = []
    for block in blocks:
        records: list[Record] = [{} for _ in range(block["records"])]
        for key, column in block["columns"].items():
            values = column.tolist() if isinstance(column, torch.Tensor) else column
            if len(values) != len(records):
                raise DataError("a column of a history must have as many values as there are records")
            for record, value in zip(records, values, strict=True):
                record[key] = value
        history += records
    return history


def _column(values: list[Any]) -> torch.Tensor | list[Any]:
    kind = type(values[0])
    if kind not in _DTYPES or any(type(value) is not kind for value in values):
        return values
    if kind is int and not all(-_LARGEST <= value < _LARGEST for value in values):
        return values
    return torch.tensor(values, dtype=_DTYPES[kind])
