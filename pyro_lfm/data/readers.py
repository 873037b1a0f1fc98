"""Reads data of any kind as a ``Table`` of named rows, the form that fits and queries take."""

from __future__ import annotations

import copy
import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pyro_lfm.data.files.opening import opened
from pyro_lfm.data.opened_rows import Stored
from pyro_lfm.data.openers import RowSource, in_order, open_source
from pyro_lfm.data.schema import Columns, Scale, Schema
from pyro_lfm.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from pyro_lfm.data.openers import Data


class FrameConverter(Protocol):
    """Converts tables of the user, such as frames or AnnData, to the rows of factors, and rows to frames."""

    def takes(self, data: object) -> bool:
        """Whether data are a table that ``encode`` reads."""

    def encode(self, frame: Any) -> NamedRows: ...

    def decode(
        self,
        values: Mapping[str, Tensor],
        index: pd.Index | Sequence[Hashable] | None = None,
        like: pd.DataFrame | None = None,
    ) -> pd.DataFrame: ...


class Table:
    """N rows of one or more names, made by ``read``. Rows stay in their containers until they are fetched.

    Attributes:
        names: the names, in the order of the model.
        shapes: {name: shape of a row in its container}.
        event_shapes: {name: shape of a row that ``take`` gives}, set by ``validate``.
        has_missing: {name: whether an entry is missing}, set by ``validate``.
        scales: {name: scale of the columns}, set by ``validate``.
        likeness: {name: how alike neighbouring rows are, 0 to 1}, set by ``validate``. It is 0 for rows in random order.
        schema: {name: names of columns, and labels}.
        weights: (N,), how many rows of the likelihood each row is worth, float64. None where each is worth one.
        frame: the DataFrame that the rows were made of, if they come from ``lfm.heterogeneous``.
        converter: the conversion between frames and rows, if they come from there.

    >>> table = read({"x": [[1, 2], [3, 4], [5, 6]], "y": [0, 1, 1]}, ["x", "y"])
    >>> len(table), table.names, table.shapes["x"]
    (3, ('x', 'y'), torch.Size([2]))
    >>> table.take(torch.tensor([2, 0]))["x"]
    tensor([[5., 6.],
            [1., 2.]])
    """

    def __init__(self, sources: Sequence[RowSource], names: Sequence[str]):
        self._sources = tuple(sources)
        self.names = tuple(names)
        shapes = {name: shape for source in sources for name, shape in source.shapes.items()}
        columns = {name: each for source in sources for name, each in source.columns.items()}
        self.shapes: dict[str, torch.Size] = {name: shapes[name] for name in names}
        self.event_shapes: dict[str, torch.Size] = dict(self.shapes)
        self.has_missing: dict[str, bool] = {}
        self.schema: dict[str, Columns] = {name: columns[name] for name in names}
        self.scales: dict[str, Scale] = {}
        self.likeness: dict[str, float] = {}
        self.frame: pd.DataFrame | None = None
        self.converter: FrameConverter | None = None
        self.weights: Tensor | None = None
        # The sum of the weights of rows that were left out when a fit was saved.
        self.weight_of_absent: float | None = None

    def __len__(self) -> int:
        return self._sources[0].length

    @property
    def counted(self) -> Tensor:
        """The indices of the rows that count: all but those of weight 0."""
        return torch.arange(len(self)) if self.weights is None else self.weights.nonzero().flatten()

    @property
    def count(self) -> int:
        """The number of rows that count."""
        return len(self) if self.weights is None else int((self.weights > 0).sum())

    @property
    def total_weight(self) -> float:
        """The sum of the weights, or N where rows have none. Bounds of a fit are per unit of it."""
        if self.weights is not None:
            return float(self.weights.sum())
        return len(self) if self.weight_of_absent is None else self.weight_of_absent

    def weights_in(self, dtype: torch.dtype, device: torch.device) -> Tensor | None:
        """The weights in another type, on another device."""
        return None if self.weights is None else self.weights.to(device, dtype)

    def with_weights(self, weights: Tensor) -> Table:
        """The same rows with weights (N,), before they are validated."""
        table = copy.copy(self)
        table.event_shapes, table.has_missing = dict(self.event_shapes), dict(self.has_missing)
        table.schema, table.scales, table.weights = dict(self.schema), dict(self.scales), weights
        table.likeness = dict(self.likeness)
        return table

    @property
    def by_item(self) -> bool:
        """Whether some rows are items of a torch ``Dataset``, which may be slow to read, or differ at every reading."""
        return any(source.by_item for source in self._sources)

    @property
    def stored(self) -> Stored | None:
        """How rows lie on the disk, of all names together. It is None where all are in memory."""
        return Stored.together([each.stored for each in self._sources if each.stored])

    @property
    def is_absent(self) -> bool:
        """Whether some rows were left out when a fit was pickled."""
        return any(source.is_absent for source in self._sources)

    @property
    def containers(self) -> dict[str, pd.DataFrame | pd.Series]:
        """The pandas objects that hold rows, by name."""
        return {n: s.container for s in self._sources if s.container is not None for n in s.shapes}

    def absent(self) -> Table:
        """A table with the shapes and columns, but without the rows: fetching some raises DataError."""
        table = copy.copy(self)
        table._sources = tuple(source.absent() for source in self._sources)
        table.frame = None
        if table.weights is not None:
            table.weights, table.weight_of_absent = None, self.total_weight
        return table

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}: {tuple(shape)}" for name, shape in self.shapes.items())
        return f"Table({len(self)} rows of {shapes})"

    def take(
        self,
        index: Tensor,
        dtype: torch.dtype | None = torch.float32,
        device: torch.device | str = "cpu",
    ) -> dict[str, Tensor]:
        """The rows at ``index``, a LongTensor (B,), of every name, each ``(B, *event shape)``, cast to ``dtype``.

        With dtype None rows keep the type of their numbers: int64 for whole numbers without gaps. A missing entry is NaN.
        Indices may repeat and need no order. Raises IndexError for an index beyond the rows.

        >>> read([7, 8, 9], ["n"]).take(torch.tensor([1, 1]), dtype=torch.float64)
        {'n': tensor([8., 8.], dtype=torch.float64)}
        """
        index = index.cpu()
        fetched = {name: rows for source in self._sources for name, rows in source.rows(index).items()}
        return {
            name: fetched[name].reshape(len(index), *self.event_shapes[name]).to(device=device, dtype=dtype)
            for name in self.names
        }

    def gather(self, index: Tensor, into: Mapping[str, Tensor]) -> None:
        """Writes the rows at ``index`` (B,), on the CPU, into tensors ``(B, *event shape)`` that are used again.

        >>> table, into = read([7, 8, 9], ["n"]), {"n": torch.empty(2)}
        >>> table.gather(torch.tensor([1, 2]), into), into
        (None, {'n': tensor([8., 9.])})
        """
        for source in self._sources:
            if source.whole is not None:
                ((name, shape),) = source.shapes.items()
                target = into[name]
                if target.dtype == source.whole.dtype and target.device.type == "cpu":
                    torch.index_select(source.whole, 0, index, out=target.view(len(index), *shape))
                    continue
                rows = {name: source.whole.index_select(0, index)}
            else:
                rows = source.rows(index)
            for name, value in rows.items():
                into[name].copy_(value.reshape(into[name].shape))

    def read_span(self, start: int, stop: int, into: Mapping[str, Tensor]) -> None:
        """Writes consecutive rows into tensors ``(stop − start, *event shape)`` on the CPU, in the calling thread alone."""
        for source in self._sources:
            whole = None if source.whole is None else {next(iter(source.shapes)): source.whole[start:stop]}
            for name, value in (whole or source.rows(torch.arange(start, stop))).items():
                # By NumPy: torch would take more threads for it, beside those of the training.
                target = into[name].numpy()
                np.copyto(target, value.cpu().numpy().reshape(target.shape), casting="unsafe")

    def blocks(self, size: int = 4096) -> Iterator[Tensor]:
        """Blocks of at most ``size`` indices, each a LongTensor, that together cover all rows in order.

        >>> [block.tolist() for block in read([[1.0]] * 5, ["x"]).blocks(2)]
        [[0, 1], [2, 3], [4]]
        """
        for start in range(0, len(self), size):
            yield torch.arange(start, min(start + size, len(self)))


class NamedRows(dict[str, Tensor]):
    """Rows by name together with the frame that they were made of, so that its cells can be returned bit for bit.

    Args:
        rows: {name: rows}.
        frame: the frame that the rows were made of; None where they were made of no frame.
        columns: {name: the frame's columns that are the entries of a row}.
        converter: the conversion between frames and rows.
    """

    def __init__(
        self,
        rows: Mapping[str, Tensor],
        frame: pd.DataFrame | None,
        columns: Mapping[str, tuple[Hashable, ...]] | None = None,
        converter: FrameConverter | None = None,
    ):
        super().__init__(rows)
        self.frame, self.columns, self.converter = frame, dict(columns or {}), converter


def read(
    data: Data | Mapping[str, Data] | Table | str | os.PathLike[str],
    names: Sequence[str],
    schema: Schema | None = None,
) -> Table:
    """The data as a table of the observed ``names``.

    ``data`` is a NumPy array (a memory map or a structured array too), tensor, pandas or polars DataFrame or Series,
    AnnData, scipy sparse matrix, list of rows or map-style torch Dataset, rows first: (N, ...), or an array of h5py or zarr,
    or an ``lfm.data.PictureFolder``, whose rows stay on the disk, or a dict of any of these by name. A path stands for what
    ``lfm.data.open`` makes of it, and a bare array for the only name. An item of a Dataset is a row, a tuple of rows in the
    order of the names (further values, such as a label, are ignored), or a dict by name. A table is returned unchanged.

    Named columns are put in the order of the ``schema`` of an earlier table. Columns without names are taken by position.
    Strings and pandas categories of a label are read as codes, also in the order of the schema.

    Values are not scaled: the pixels of a PIL image or a uint8 array are 0 to 255. NaN, NA of pandas and the mask of
    NumPy mean missing. A sparse matrix in another layout than CSR is converted to CSR once.

    Raises ``DataError`` for data of another kind, no rows, entries that are no real numbers, names that do not
    match, or lengths that differ. ``ShapeError`` for a single number or rows of different shapes.

    >>> import numpy as np
    >>> read(np.zeros((100, 3)), ["x"])
    Table(100 rows of x: (3,))
    >>> read({"x": np.zeros((100, 3)), "label": torch.zeros(99)}, ["x", "label"])
    Traceback (most recent call last):
    pyro_lfm.errors.DataError: data must have as many rows under every name; got x: 100, label: 99
    """
    if not names:
        raise DataError("the model must observe at least one factor to read data; it observes none")
    data = opened(data)
    if isinstance(data, Table):
        _check_names(data.names, names)
        return data if schema is None else _in_order(data, schema)
    if not isinstance(data, Mapping):
        return Table([open_source(data, names, schema)], names)
    _check_names(tuple(data), names)
    sources = [open_source(opened(data[name]), [name], schema) for name in names]
    if len({source.length for source in sources}) > 1:
        lengths = ", ".join(f"{name}: {source.length}" for name, source in zip(names, sources, strict=True))
        raise DataError(f"data must have as many rows under every name; got {lengths}")
    _check_row_labels(names, sources)
    table = Table(sources, names)
    if isinstance(data, NamedRows):
        table.frame, table.converter = data.frame, data.converter
        for name, columns in data.columns.items():
            if name in table.schema:
                table.schema[name] = replace(table.schema[name], names=columns)
    return table


def _check_row_labels(names: Sequence[str], sources: Sequence[RowSource]) -> None:
    """Refuses pandas objects whose row labels are the same in another order: their rows do not belong together."""
    labelled = [
        (name, source.container.index)
        for name, source in zip(names, sources, strict=True)
        if source.container is not None
    ]
    for name, labels in labelled[1:]:
        first, index = labelled[0]
        if not labels.equals(index) and labels.is_unique and index.is_unique and index.isin(labels).all():
            raise DataError(
                f"data must have its rows in one order; {name} has the row labels of {first} in another: give "
                f"{name}.loc[{first}.index], or arrays, as .to_numpy() makes, where rows belong together by position"
            )


def _in_order(table: Table, schema: Schema) -> Table:
    """A table with its columns in the order of a schema."""
    sources = []
    for source in table._sources:
        name = next(iter(source.shapes))
        names, fitted = table.schema[name].names, schema[name].names if name in schema else None
        known = names is not None and fitted is not None
        sources.append(in_order(source, name, names, fitted) if known else source)  # type: ignore[arg-type]
    if all(new is old for new, old in zip(sources, table._sources, strict=True)):
        return table
    ordered = Table(sources, table.names)
    ordered.frame, ordered.converter = table.frame, table.converter
    return ordered


def _check_names(given: Sequence[Hashable], expected: Sequence[str]) -> None:
    missing = [name for name in expected if name not in given]
    unknown = [str(name) for name in given if name not in expected]
    if missing or unknown:
        faults = [f"missing: {', '.join(missing)}"] * bool(missing)
        faults += [f"unknown: {', '.join(unknown)}"] * bool(unknown)
        raise DataError(
            f"data must have exactly the names that the model observes, {', '.join(expected)}; {'; '.join(faults)}"
        )
