"""``ColumnsView``: observed variables whose entries are columns of a table, in their own units and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pyro_lfm.evaluate.decoding.decoded_columns import DecodedColumn, ObservedColumn
from pyro_lfm.evaluate.decoding.entry_summaries import EntrySummaries
from pyro_lfm.explorer.numbers_as_json import number
from pyro_lfm.explorer.request_values import code
from pyro_lfm.web.json_columns import FrameColumns, ObservedTable
from pyro_lfm.web.refusal import Json


@dataclass(frozen=True, eq=False)
class ColumnsView:
    """Columns of one variable, or of all variables of a mixed table.

    Attributes:
        name: of the variable, or "table".
        columns: their names, kinds and units.
        low, high: the least and largest value of each among the rows, (D,), in its own units.
        table: the mixed table that the columns come from; None of a variable by itself.
    """

    name: str
    columns: Sequence[ObservedColumn]
    low: np.ndarray
    high: np.ndarray
    table: FrameColumns | None = None

    @property
    def size(self) -> int:
        """The number of values of a row."""
        return len(self.columns)

    def info(self) -> dict[str, Json]:
        columns: list[Json] = []
        for column, low, high in zip(self.columns, self.low, self.high, strict=True):
            labels: list[Json] | None = (
                None if column.labels is None else [str(label) for label in column.labels]
            )
            columns.append(
                {
                    "name": column.name,
                    "kind": column.kind,
                    "labels": labels,
                    "low": number(float(low)),
                    "high": number(float(high)),
                }
            )
        return {"name": self.name, "kind": "columns", "columns": columns}

    def original(self, rows: Mapping[str, Tensor]) -> dict[str, Json]:
        """The first of some rows, (B, *event) by name; of a category its code."""
        cells: list[Json] = []
        for column in self.columns:
            value = float(rows[column.variable][0].reshape(-1)[column.entry]) * column.scale + column.loc
            cells.append({"value": number(value)})
        return {"cells": cells}

    def decoded(self, summaries: Mapping[str, EntrySummaries], row: int = 0) -> dict[str, Json]:
        """A decoded row: mean and interval of each number, the probability of each label."""
        numbers = {name: _ends(summary, row) for name, summary in summaries.items()}
        cells: list[Json] = []
        for column in self.columns:
            if column.labels is None:
                # In plain numbers, as operations of torch for each of thousands of columns take a tenth of a second.
                ends = numbers[column.variable][column.entry]
                cells.append(_interval([end * column.scale + column.loc for end in ends]))
            else:
                cells.append(_cell(column.of(summaries), row))
        return {"cells": cells}

    def read(self, values: np.ndarray, event: tuple[int, ...]) -> dict[str, Tensor]:
        """The rows of its variables, of values (D,) in their units or codes, NaN where missing.

        Raises:
            Refusal: a code of no label. DataError: a value that its column cannot have.
        """
        for column, value in zip(self.columns, values.tolist(), strict=True):
            if column.labels is not None and not np.isnan(value):
                code(value, column.name, column.labels)
        if self.table is not None:
            by_key = {column.name: values[k : k + 1] for k, column in enumerate(self.columns)}
            return ObservedTable(self.table).rows(by_key)
        return {self.name: torch.from_numpy(values).reshape(1, *event)}


def _ends(summary: EntrySummaries, row: int) -> list[tuple[float, float, float]]:
    """Mean and ends of the interval of each entry of a row, in the units of the model."""
    mean, lower, upper = (
        part[row].double().tolist() for part in (summary.mean, summary.lower, summary.upper)
    )
    return [*zip(mean, lower, upper, strict=True)]


def _interval(ends: list[float]) -> Json:
    """A number with its interval; a negative scale turns the ends round."""
    mean, low, high = ends
    return {"mean": number(mean), "low": number(min(low, high)), "high": number(max(low, high))}


def _cell(decoded: DecodedColumn, row: int) -> Json:
    """The probability of each label; of levels without probabilities their mean and interval."""
    if decoded.probabilities is not None:
        return {"probabilities": [number(p) for p in decoded.probabilities[row].tolist()]}
    return _interval([float(part[row]) for part in (decoded.mean, decoded.lower, decoded.upper)])
