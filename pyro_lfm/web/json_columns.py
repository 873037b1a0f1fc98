"""The observed variables of a fit as columns of JSON: a variable on its own, or those of an ``lfm.heterogeneous`` table."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import torch
from torch import Tensor
from torch.distributions import constraints

from pyro_lfm.data.schema import Columns
from pyro_lfm.distributions.supports import entrywise
from pyro_lfm.factors.variables import Variable
from pyro_lfm.tables.columns import Column
from pyro_lfm.web.json_cells import Cells, Labels, Numbers, label_as_json
from pyro_lfm.web.refusal import Json

if TYPE_CHECKING:
    import pandas as pd


class FrameColumns(Protocol):
    """The columns of a mixed table, which convert frames to rows and back: ``lfm.heterogeneous``, or what a fit knows."""

    @property
    def columns(self) -> Sequence[Column]: ...

    @property
    def groups(self) -> Mapping[str, Sequence[Hashable]]: ...

    def encode(self, frame: pd.DataFrame) -> dict[str, Tensor]: ...

    def decode(self, values: Mapping[str, Tensor]) -> pd.DataFrame: ...


# The numbers of each column, by its key in JSON.
Read = Mapping[str, np.ndarray]


class Observed(Protocol):
    """Some observed variables, and the keys that they have in JSON."""

    names: tuple[str, ...]
    optional: bool

    @property
    def whole(self) -> Mapping[str, Cells]:
        """{name of a variable: its values}; empty where rows come by columns alone."""

    @property
    def columns(self) -> Mapping[str, Cells]:
        """{name of a column: its values}; empty where columns have no names."""

    def rows(self, read: Read) -> dict[str, Tensor]:
        """The rows of the variables, {name: (N, *event)}, of values by the keys of ``whole`` or of ``columns``."""

    def write(self, rows: Mapping[str, Tensor], by_columns: bool) -> dict[str, list[Json]]:
        """{key: values of JSON} of rows {name: (N, *event)}."""

    def write_means(self, means: Mapping[str, Tensor], by_columns: bool) -> dict[str, list[Json]]:
        """{key: values of JSON} of means {name: (N, *event)}, of labels (N, categories)."""


class ObservedVariable:
    """One observed variable of a model.

    Args:
        variable: the variable.
        columns: the names of its columns and its labels, as the fit knows them.
        optional: whether a request may leave it out.
    """

    def __init__(self, variable: Variable, columns: Columns, optional: bool = False):
        self.variable, self.optional = variable, optional
        self.names: tuple[str, ...] = (variable.name,)
        truths = isinstance(entrywise(variable.support), type(constraints.boolean))
        labelled = columns.labels is not None and variable.shape in ((), (1,))
        whole = Labels(columns.labels or ()) if labelled else Numbers(variable.shape, truths)
        self.whole: dict[str, Cells] = {variable.name: whole}
        keys = [str(name) for name in columns.names or ()]
        named = len(set(keys)) == variable.shape.numel() and len(variable.shape) < 2
        each: Cells = whole if labelled else Numbers(truths=truths)
        self.columns: dict[str, Cells] = dict.fromkeys(keys, each) if named else {}

    def rows(self, read: Read) -> dict[str, Tensor]:
        columns = [torch.from_numpy(values) for values in read.values()]
        rows = columns[0] if len(columns) == 1 else torch.stack(columns, 1)
        return {self.variable.name: rows.reshape(len(rows), *self.variable.shape)}

    def write(self, rows: Mapping[str, Tensor], by_columns: bool) -> dict[str, list[Json]]:
        values = rows[self.variable.name]
        if not by_columns:
            return {name: cells.write(values) for name, cells in self.whole.items()}
        each = values.reshape(len(values), -1).T
        return {key: cells.write(v) for (key, cells), v in zip(self.columns.items(), each, strict=True)}

    def write_means(self, means: Mapping[str, Tensor], by_columns: bool) -> dict[str, list[Json]]:
        values = means[self.variable.name]
        if not by_columns:
            return {name: cells.write_means(values) for name, cells in self.whole.items()}
        if len(self.columns) == 1:
            return {
                key: cells.write_means(values.squeeze(1) if values.shape[1:] == (1,) else values)
                for key, cells in self.columns.items()
            }
        return {
            key: cells.write_means(v) for (key, cells), v in zip(self.columns.items(), values.T, strict=True)
        }


class ObservedTable:
    """The variables of an ``lfm.heterogeneous`` table, whose columns come in their own units and labels.

    Args:
        table: the table.
    """

    optional = False

    def __init__(self, table: FrameColumns):
        try:
            import pandas  # noqa: F401
        except ModuleNotFoundError:
            message = "rows by the columns of a table need pandas: pip install 'pyro_lfm[data]'"
            raise ImportError(message) from None
        self.table = table
        self.names = tuple(table.groups)
        self.whole: dict[str, Cells] = {}
        self.by_key = {str(column.name): column for column in table.columns}
        self.columns: dict[str, Cells] = {
            key: Numbers() if column.levels is None else Labels(list(column.levels))
            for key, column in self.by_key.items()
        }

    def rows(self, read: Read) -> dict[str, Tensor]:
        import pandas as pd

        frame = {column.name: _cells(column, read[key]) for key, column in self.by_key.items()}
        return self.table.encode(pd.DataFrame(frame))

    def write(self, rows: Mapping[str, Tensor], by_columns: bool) -> dict[str, list[Json]]:
        frame = self.table.decode(rows)
        written: dict[str, list[Json]] = {}
        for key, column in self.by_key.items():
            if column.name in frame:
                missing = frame[column.name].isna().tolist()
                values = [label_as_json(value) for value in frame[column.name].tolist()]
                written[key] = [None if gap else v for v, gap in zip(values, missing, strict=True)]
        return written

    def write_means(self, means: Mapping[str, Tensor], by_columns: bool) -> dict[str, list[Json]]:
        written: dict[str, list[Json]] = {}
        for name, members in self.table.groups.items():
            for place, member in enumerate(members):
                column, values = self.by_key[str(member)], means[name].double()
                one = values if len(members) == 1 else values[:, place]
                written[str(member)] = self._means_of(column, one)
        return {key: written[key] for key in self.by_key}

    def _means_of(self, column: Column, means: Tensor) -> list[Json]:
        if column.kind == "binary":  # the mean is the probability of the second label
            second = means.reshape(-1, 1)
            means = torch.cat([1 - second, second], 1)
        elif column.levels is None:
            means = means.reshape(-1) * column.scale + column.loc
        elif means.numel() == len(means):
            means = means.reshape(-1)
        return self.columns[str(column.name)].write_means(means)


def _cells(column: Column, values: np.ndarray) -> np.ndarray | list[object]:
    """A column of a frame: numbers, or the labels of codes, None where missing."""
    if column.levels is None:
        return values
    levels = cast("list[object]", list(column.levels))
    return [None if np.isnan(code) else levels[int(code)] for code in values]
