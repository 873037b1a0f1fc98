"""Opens data of any kind as a ``RowSource``: how many rows there are, their shape, and how to fetch some of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from pyro_lfm.data.containers import KINDS, listed, open_block
from pyro_lfm.data.label_codes import encode
from pyro_lfm.data.opened_rows import Block, Fetch, InOrder, Stored, check_numeric, from_numpy
from pyro_lfm.data.schema import Columns, Schema, order_of
from pyro_lfm.errors import DataError, ShapeError

if TYPE_CHECKING:
    import pandas as pd

    from pyro_lfm.data.containers import Container

    Row: TypeAlias = np.ndarray | Sequence[object] | Tensor
    Item: TypeAlias = Row | tuple[Row, ...] | Mapping[str, Row]
    # The rows of one name, or a torch Dataset of items with all names.
    Data: TypeAlias = Container | Dataset[Item] | DataLoader[Item]


@dataclass(frozen=True)
class RowSource:
    """Rows that stay where they are until they are fetched. It can be pickled if its container can.

    Attributes:
        length: the number of rows N.
        shapes: {name: shape of a row}.
        rows: ``rows(index)`` fetches the rows at indices (B,), {name: (B, ...)}.
        whole: all rows as a tensor, if torch can read their memory (also a memory map); else None.
        columns: the names of columns, and labels.
        container: the pandas object that holds the rows, if one does.
        by_item: whether the rows are items of a torch Dataset.
        stored: how the rows lie on the disk; None where they are in memory.
    """

    length: int
    shapes: Mapping[str, torch.Size]
    rows: Callable[[Tensor], dict[str, Tensor]]
    whole: Tensor | None = None
    columns: Schema = field(default_factory=dict)
    container: pd.DataFrame | pd.Series | None = None
    by_item: bool = False
    stored: Stored | None = None

    def absent(self) -> RowSource:
        """A source with the shapes and columns, but without the rows."""
        return RowSource(self.length, self.shapes, _Absent(tuple(self.shapes)), columns=self.columns)

    @staticmethod
    def without_rows(length: int, shapes: Mapping[str, torch.Size], columns: Schema) -> RowSource:
        """A source of rows that are not here, with their number, and by name their shapes and columns."""
        return RowSource(length, shapes, _Absent(tuple(shapes)), columns=columns)

    @property
    def is_absent(self) -> bool:
        return isinstance(self.rows, _Absent)


@dataclass(frozen=True)
class _Absent:
    """The rows of a fit that was saved or pickled without them."""

    names: tuple[str, ...]

    def __call__(self, index: Tensor) -> dict[str, Tensor]:
        raise DataError(
            f"the rows of {', '.join(self.names)} that were fitted are not here: a fit is saved and pickled without them. "
            "Give data=, or pickle the fit with fit.keep_rows = True"
        )


@dataclass(frozen=True)
class _Named:
    """The rows of one name."""

    name: str
    fetch: Fetch

    def __call__(self, index: Tensor) -> dict[str, Tensor]:
        return {self.name: self.fetch(index)}


@dataclass(frozen=True)
class _Codes:
    """Labels as codes, in the shape of their column."""

    codes: Tensor

    def __call__(self, index: Tensor) -> Tensor:
        return self.codes[index]


def open_source(data: Data, names: Sequence[str], schema: Schema | None = None) -> RowSource:
    """The source of the rows of all `names`, with columns in the order of the schema."""
    if isinstance(data, DataLoader):
        raise DataError(
            f"{names[0]} must be {KINDS}; got a DataLoader: give its .dataset, the fit batches itself"
        )
    expected = {name: (schema or {}).get(name, Columns()) for name in names}
    if isinstance(data, Dataset):
        return _dataset(data, names, expected)
    if len(names) > 1:
        wanted = ", ".join(f"{name!r}: ..." for name in names)
        raise DataError(
            f"data must say which rows belong to which name, as {{{wanted}}}, because the model observes "
            f"{', '.join(names)}; got one bare {type(data).__name__}"
        )
    (name,) = names
    columns = expected[name]
    block = open_block(data, name, columns.categories is not None)
    _check_rows(name, block.shape)
    fetch, columns = _labelled(name, block, columns)
    source = RowSource(
        block.shape[0],
        {name: block.shape[1:]},
        _Named(name, fetch),
        block.whole,
        {name: columns},
        block.container,
        stored=block.stored,
    )
    return source if block.names is None else in_order(source, name, block.names)


def in_order(
    source: RowSource, name: str, names: Sequence[Hashable], fitted: Sequence[Hashable] | None = None
) -> RowSource:
    """A source of one name with its columns in the fitted order.

    Args:
        names: the names of its columns, in their present order.
        fitted: the names in the order that is wanted; by default that of its schema.
    """
    columns = source.columns[name]
    order = order_of(name, names, columns.names if fitted is None else fitted)
    if columns.names is None:
        source = replace(source, columns={name: replace(columns, names=tuple(names))})
    if order is None:
        return source
    assert isinstance(source.rows, _Named)
    kept = tuple(names[place] for place in order)
    return replace(
        source,
        rows=_Named(name, InOrder(source.rows.fetch, order)),
        whole=None,
        columns={name: replace(columns, names=kept)},
    )


def _check_rows(name: str, shape: torch.Size) -> None:
    if not shape:
        raise ShapeError(
            f"{name} must have rows, shape (N, ...); got a single number: give an array with one entry or row per datum"
        )
    if shape[0] == 0:
        raise DataError(
            f"{name} must have at least one row; got shape {tuple(shape)}: check the filter or file behind it"
        )
    if 0 in shape:
        raise DataError(
            f"{name} must have at least one entry per row; got shape {tuple(shape)}: its rows are empty"
        )


def _labelled(name: str, block: Block, columns: Columns) -> tuple[Fetch, Columns]:
    """How to fetch rows as numbers, and the columns with the labels of their codes."""
    if block.labels is None:
        assert block.fetch is not None
        return block.fetch, columns
    assert columns.categories is not None
    codes, values = encode(name, block.labels, columns.categories, columns.labels, columns.ordered)
    return _Codes(torch.from_numpy(codes).reshape(block.shape)), replace(columns, labels=values)


@dataclass(frozen=True)
class _Items:
    """The items of a Dataset as rows by name."""

    dataset: Dataset[Item]
    names: tuple[str, ...]
    shapes: Mapping[str, torch.Size]

    def __call__(self, index: Tensor) -> dict[str, Tensor]:
        items = [(i, _item(self.dataset, i, self.names)) for i in index.tolist()]
        for i, item in items:
            for name, row in item.items():
                if row.shape != self.shapes[name]:
                    raise ShapeError(
                        f"{name} must have rows of one shape, {tuple(self.shapes[name])} as in row 0; got "
                        f"{tuple(row.shape)} in row {i}: resize or crop in the Dataset's transform"
                    )
        # torch.stack takes no empty list.
        return {
            name: torch.stack([item[name] for _, item in items]) if items else torch.empty(0, *shape)
            for name, shape in self.shapes.items()
        }


def _dataset(dataset: Dataset[Item], names: Sequence[str], expected: Schema) -> RowSource:
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise DataError(
            f"{', '.join(names)} must come from a map-style Dataset, with __getitem__ and __len__; got a "
            f"{type(dataset).__name__}: gather its items in one array, or give the Dataset a __len__ and a __getitem__"
        )
    length = len(cast(Sized, dataset))
    if length == 0:
        raise DataError(
            f"{', '.join(names)} must have at least one row; got an empty {type(dataset).__name__}"
        )
    shapes = {name: row.shape for name, row in _item(dataset, 0, names).items()}
    return RowSource(length, shapes, _Items(dataset, tuple(names), shapes), columns=expected, by_item=True)


def _item(dataset: Dataset[Item], i: int, names: Sequence[str]) -> dict[str, Tensor]:
    """Item i by name. Further values, such as a label, are ignored."""
    given = dataset[i]
    item: Mapping[str, Row] = {names[0]: cast("Row", given)}
    if isinstance(given, tuple):
        item = dict(zip(names, given, strict=False))
    elif isinstance(given, Mapping):
        item = given
    missing = [name for name in names if name not in item]
    if missing:
        raise DataError(
            f"each item of the Dataset must give {', '.join(names)}; got {', '.join(map(str, item)) or 'nothing'} "
            f"in row {i}, without {', '.join(missing)}: return a dict by name or a tuple in that order"
        )
    return {name: _row(item[name], name, i) for name in names}


def _row(value: Row, name: str, i: int) -> Tensor:
    where = f"{name} in row {i}"
    row = value.detach() if isinstance(value, Tensor) else listed(value, where)
    check_numeric(row, where)
    return row if isinstance(row, Tensor) else from_numpy(row)
