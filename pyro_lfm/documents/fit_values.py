"""The parts of a saved fit beside its declaration and weights: its history as CSV, and what the fitted rows were."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from pyro_lfm.data.openers import RowSource
from pyro_lfm.data.readers import Table
from pyro_lfm.data.schema import Columns, Scale
from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.storage.texts import Json, read_json, write_json
from pyro_lfm.storage.trees import Tree, tree_of, value_of

_NUMBER = re.compile(r"-?(\d+|\d+\.\d*(e[+-]?\d+)?|\d+e[+-]?\d+|inf)|nan", re.IGNORECASE)


# A whole number from here on, and a longer cell, would not be read back.
_LARGE, _LONG = 10**18, 100_000


def history_csv(history: Sequence[Mapping[str, Any]], beside: dict[str, Tensor]) -> bytes:
    """The history as CSV, one line an epoch. Numbers stand as they are, and other values as JSON.

    Args:
        beside: takes the tensors that callbacks have added to records, by the names under which the cells refer to them.
    """
    names = list(dict.fromkeys(name for record in history for name in record))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for k, record in enumerate(history):
        writer.writerow(
            [_cell(record[name], f"history.{k}.{name}", beside) if name in record else "" for name in names]
        )
    return text.getvalue().encode()


def _cell(value: Any, place: str, beside: dict[str, Tensor]) -> str:
    if type(value) is float or (type(value) is int and abs(value) < _LARGE):
        return repr(value)
    tree = tree_of(value, place)
    # One tensor that is the whole value has no name of its own.
    names = {name: f"{place}.{name}" if name else place for name in tree.tensors}
    beside.update({names[name]: tensor for name, tensor in tree.tensors.items()})
    outline: Json = tree.outline
    if names or isinstance(outline, dict):
        outline = {"value": outline, "tensors": list(names)}
    cell = write_json(outline, place).decode()
    if len(cell) > _LONG:
        raise DeclarationError(
            f"{place} has {len(cell)} characters; a cell of history.csv holds {_LONG}: keep it elsewhere"
        )
    return cell


def read_history(data: bytes, beside: Mapping[str, Tensor], what: str) -> list[dict[str, Any]]:
    """The history of a CSV that ``history_csv`` wrote.

    Raises:
        DataError: it is another file.
    """
    try:
        text = data.decode("utf-8")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{what} cannot be read: it is no table with commas ({error})") from None
    if not rows:
        raise DataError(f"{what} cannot be read: it is empty")
    names, *lines = rows
    if any(len(line) > len(names) for line in lines) or len(set(names)) < len(names):
        raise DataError(f"{what} cannot be read: its lines have other columns than its first one")
    return [
        {
            name: _value(cell, f"history.{k}.{name}", beside, what)
            for name, cell in zip(names, line, strict=False)
            if cell
        }
        for k, line in enumerate(lines)
    ]


def _value(cell: str, place: str, beside: Mapping[str, Tensor], what: str) -> Any:
    if _NUMBER.fullmatch(cell):
        return int(cell) if cell.lstrip("-").isdigit() else float(cell)
    outline = read_json(cell.encode(), what)
    if not isinstance(outline, dict):
        return value_of(Tree(outline, {}), what)
    names = outline.get("tensors")
    if outline.keys() != {"value", "tensors"} or not isinstance(names, list):
        raise DataError(f"{what} cannot be read: the cell {place} has a form that the library does not write")
    tensors: dict[str, Tensor] = {}
    for name in names:
        full = f"{place}.{name}" if name else place
        if not isinstance(name, str) or full not in beside:
            raise DataError(f"{what} cannot be read: weights.safetensors has no tensor {full}")
        tensors[name] = beside[full]
    return value_of(Tree(outline["value"], tensors), what)


def rows_entry(table: Table, digest: str | None, beside: dict[str, Tensor]) -> dict[str, Any]:
    """What the fitted rows were, for fit.json: their number, names, shapes, columns and digest.

    Args:
        beside: takes the scales of columns.
    """
    names: dict[str, Any] = {}
    for name in table.names:
        columns = table.schema[name]
        if columns.scale is not None:
            beside.update({f"rows.{name}.{f.name}": getattr(columns.scale, f.name) for f in fields(Scale)})
        names[name] = {
            "shape": list(table.shapes[name]),
            "event": list(table.event_shapes[name]),
            "missing": table.has_missing.get(name, False),
            "columns": _labels(columns.names, name),
            "labels": _labels(columns.labels, name),
            "categories": columns.categories,
            "ordered": columns.ordered,
            "covariate": columns.covariate,
        }
    weight = None if table.total_weight == len(table) else table.total_weight
    return {"count": len(table), "weight": weight, "digest": digest, "names": names}


def _labels(labels: tuple[Hashable, ...] | None, name: str) -> Json:
    return None if labels is None else [tree_of(label, f"a column of {name}").outline for label in labels]


def absent_rows(entry: Any, beside: Mapping[str, Tensor], what: str) -> Table:
    """The table of rows that are not here.

    Raises:
        DataError: the entry is none that ``rows_entry`` makes.
    """
    try:
        names = {str(name): dict(each) for name, each in entry["names"].items()}
        shapes = {name: torch.Size(map(_size, each["shape"])) for name, each in names.items()}
        columns = {name: _read_columns(each, _scale(name, beside), what) for name, each in names.items()}
        table = Table([RowSource.without_rows(_size(entry["count"]), shapes, columns)], list(names))
        weight = entry.get("weight")
        table.weight_of_absent = None if weight is None else float(weight)
        for name, each in names.items():
            table.event_shapes[name] = torch.Size(map(_size, each["event"]))
            table.has_missing[name] = bool(each["missing"])
            scale = columns[name].scale
            if scale is not None:
                table.scales[name] = scale
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{what} cannot be read: its entry rows has a form that the library does not write"
        ) from None
    return table


def _read_columns(entry: Mapping[str, Any], scale: Scale | None, what: str) -> Columns:
    return Columns(
        names=_read_labels(entry["columns"], what),
        labels=_read_labels(entry["labels"], what),
        categories=None if entry["categories"] is None else _size(entry["categories"]),
        ordered=bool(entry["ordered"]),
        covariate=bool(entry["covariate"]),
        scale=scale,
    )


def _size(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**62:
        raise ValueError(value)
    return value


def _scale(name: str, beside: Mapping[str, Tensor]) -> Scale | None:
    values = {f.name: beside.get(f"rows.{name}.{f.name}") for f in fields(Scale)}
    if None in values.values():
        return None
    return Scale(**values)  # type: ignore[arg-type]


def _read_labels(labels: Any, what: str) -> tuple[Hashable, ...] | None:
    if labels is None:
        return None
    return tuple(value_of(Tree(label, {}), what) for label in labels)
