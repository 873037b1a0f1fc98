"""What reads the user's tables (``Fit.table``) as JSON, for saved fits: one entry for each kind of table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyro_lfm.data.readers import FrameConverter
from pyro_lfm.documents.cell_values import cells_entry, read_cells
from pyro_lfm.documents.table_values import read_table, table_entry
from pyro_lfm.errors import DataError
from pyro_lfm.tables.cell_columns import CellColumns
from pyro_lfm.tables.table_columns import TableColumns

_WRITERS: dict[type, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    TableColumns: ("columns", table_entry),
    CellColumns: ("cells", cells_entry),
}
_READERS: dict[str, Callable[[Any, str], FrameConverter]] = {"columns": read_table, "cells": read_cells}


def converter_entry(converter: FrameConverter | None) -> dict[str, Any] | None:
    """The entry of the converter of a fit; None where it has none, or one that no file can hold."""
    if type(converter) not in _WRITERS:
        return None
    kind, write = _WRITERS[type(converter)]
    return {"kind": kind, **write(converter)}


def read_converter(entry: Any, what: str) -> FrameConverter | None:
    """The converter of an entry that ``converter_entry`` made.

    Raises:
        DataError: the entry is none.
    """
    if entry is None:
        return None
    # Entries without a kind are of fits that were saved before there were several.
    kind = entry.get("kind", "columns") if isinstance(entry, dict) else "columns"
    if kind not in _READERS:
        raise DataError(f"{what} cannot be read: it holds a table of the unknown kind {kind!r}")
    return _READERS[kind](entry, what)
