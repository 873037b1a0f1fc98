"""One way in for each kind of data: how many rows there are, of which shape, and how to fetch some of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from pyro_lfm.data.containers import (
    KINDS,
    Block,
    Fetch,
    InOrder,
    check_numeric,
    from_numpy,
    listed,
    open_block,
)
from pyro_lfm.data.labels import encode
from pyro_lfm.data.schema import Columns, Schema, order_of
from pyro_lfm.errors import DataError, ShapeError


@dataclass(frozen=True)
class Source:
    """Rows that stay where they are: `rows(index)` fetches those asked for, by name, in order.

    Where the rows lie in memory that torch can read as it is (a file mapped into it too), `whole` is that tensor.
    `by_item` says that they are items of a torch Dataset. A source can be pickled wherever what it reads can.
    `columns` says what their columns and labels are called; `container` is the pandas object that holds them, if one does.
    """

    length: int
    shapes: Mapping[str, torch.Size]
    rows: Callable[[Tensor], dict[str, Tensor]]
    whole: Tensor | None = None
    columns: Schema = field(default_factory=dict)
    container: Any = None
    by_item: bool = False

    def absent(self) -> Source:
        """What is known of the rows, without the rows."""
        return Source(self.length, self.shapes, _Absent(tuple(self.shapes)), columns=self.columns)

    @property
    def is_absent(self) -> bool:
        return isinstance(self.rows, _Absent)


@dataclass(frozen=True)
class _Absent:
    """Rows that are not at hand."""

    names: tuple[str, ...]

    def __call__(self, index: Tensor) -> dict[str, Tensor]:
        raise DataError(
            f"the rows of {', '.join(self.names)} that were fitted are not here: a fit is pickled without them. Give data=, "
            "or set fit.keep_rows = True before it is pickled"
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


def open_source(data: Any, names: Sequence[str], schema: Schema | None = None) -> Source:
    """The source behind `data`, which must serve every one of `names`; its columns in the order of the schema."""
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
    source = Source(
        block.shape[0],
        {name: block.shape[1:]},
        _Named(name, fetch),
        block.whole,
        {name: columns},
        block.container,
    )
    return source if block.names is None else in_order(source, name, block.names)


def in_order(source: Source, name: str, names: Sequence[Any], fitted: Sequence[Any] | None = None) -> Source:
    """A source of one name whose columns, called `names`, are in the order that its rows are to have."""
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
    """How to fetch rows as numbers, and what the codes of labels stand for."""
    if block.labels is None:
        assert block.fetch is not None
        return block.fetch, columns
    assert columns.categories is not None
    codes, values = encode(name, block.labels, columns.categories, columns.labels, columns.ordered)
    return _Codes(torch.from_numpy(codes).reshape(block.shape)), replace(columns, labels=values)


@dataclass(frozen=True)
class _Items:
    """The items of a Dataset as rows by name."""

    dataset: Any
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
        # An empty index still owes its caller rows of the right shape, which torch.stack cannot give.
        return {
            name: torch.stack([item[name] for _, item in items]) if items else torch.empty(0, *shape)
            for name, shape in self.shapes.items()
        }


def _dataset(dataset: Dataset, names: Sequence[str], expected: Schema) -> Source:
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise DataError(
            f"{', '.join(names)} must come from a map-style Dataset, with __getitem__ and __len__; got a "
            f"{type(dataset).__name__}: gather its items in one array, or give the Dataset a __len__ and a __getitem__"
        )
    length = len(dataset)
    if length == 0:
        raise DataError(
            f"{', '.join(names)} must have at least one row; got an empty {type(dataset).__name__}"
        )
    shapes = {name: row.shape for name, row in _item(dataset, 0, names).items()}
    return Source(length, shapes, _Items(dataset, tuple(names), shapes), columns=expected, by_item=True)


def _item(dataset: Any, i: int, names: Sequence[str]) -> dict[str, Tensor]:
    """Item i by name. What comes beyond the names, such as a label, is ignored."""
    item = dataset[i]
    if isinstance(item, tuple):
        item = dict(zip(names, item, strict=False))
    elif not isinstance(item, Mapping):
        item = {names[0]: item}
    missing = [name for name in names if name not in item]
    if missing:
        raise DataError(
            f"each item of the Dataset must give {', '.join(names)}; got {', '.join(map(str, item)) or 'nothing'} "
            f"in row {i}, without {', '.join(missing)}: return a dict by name or a tuple in that order"
        )
    return {name: _row(item[name], name, i) for name in names}


def _row(value: Any, name: str, i: int) -> Tensor:
    where = f"{name} in row {i}"
    row = value.detach() if isinstance(value, Tensor) else listed(value, where)
    check_numeric(row, where)
    return row if isinstance(row, Tensor) else from_numpy(row)
