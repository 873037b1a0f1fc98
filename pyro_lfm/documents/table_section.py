"""A mixed table in a document: ``[model] table = "heterogeneous"``, whose factors follow from the columns of a file."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyro_lfm.documents.text.alternatives import Alternatives
from pyro_lfm.documents.text.expressions import Call, is_call
from pyro_lfm.documents.text.reading import Broken, Reader
from pyro_lfm.documents.text.registry import suggestion
from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.factors import Factor
from pyro_lfm.tables import Heterogeneous, heterogeneous
from pyro_lfm.tables.table_columns import table_of

_OPTIONS = {
    "network": Alternatives(frozenset({"source", "function"})),
    "min_scale": Alternatives(frozenset({"float"})),
}


@dataclass(frozen=True)
class TableSection:
    """The factors of a table, and how the document declares them."""

    factors: Heterogeneous
    written: Any

    def shortened(self, section: Mapping[str, Any]) -> dict[str, Any]:
        """The section of the model as it was written: the table in place of its factors."""
        rest = {name: value for name, value in section.items() if name not in self.factors}
        return {"table": self.written, **rest}


def declared_table(
    section: Mapping[str, Any], data: Mapping[str, Any] | None, folder: Path, reader: Reader
) -> tuple[TableSection | None, Mapping[str, Any]]:
    """The table that a section declares, and the rest of the section.

    Args:
        folder: the folder in which a relative path of the data lies.
    """
    written = section.get("table")
    is_table = written == "heterogeneous" or (
        isinstance(written, str) and written.startswith("heterogeneous(")
    )
    is_table = is_table or (isinstance(written, Mapping) and written.get("type") == "heterogeneous")
    if not is_table:
        return None, section
    rest = {name: value for name, value in section.items() if name != "table"}
    with reader.at("model", "table"):
        options = _options(written, reader)
        kinds = _kinds(data, reader)
        if options is None or kinds is None:
            return None, rest
        frame = _frame(data, folder, reader)
        if frame is None:
            return None, rest
        listed = (data or {}).get("leave_out")
        # Anything else is a fault of [data], noted there.
        unwanted = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
        lacking = [name for name in unwanted if name not in frame.columns]
        if lacking:
            columns = [str(name) for name in frame.columns]
            reader.note(f"leave_out names no column: {lacking[0]!r}{suggestion(lacking[0], columns)}")
            return None, rest
        frame = frame.drop(columns=unwanted)
        try:
            return TableSection(heterogeneous(frame, kinds=kinds, **options), written), rest
        except (DataError, DeclarationError) as error:
            reader.note(str(error))
            return None, rest


def _options(written: Any, reader: Reader) -> dict[str, Any] | None:
    if isinstance(written, str) and not is_call(written):
        return {}
    call = reader.call(written, "table")
    if isinstance(call, Broken):
        return None
    options = {}
    for name, value in call.named.items():
        if name not in _OPTIONS:
            reader.note(f"heterogeneous has no option {name!r}{suggestion(name, _OPTIONS)}")
            return None
        options[name] = reader.argument(name, value, _OPTIONS[name])
    if call.positional or any(isinstance(value, Broken) for value in options.values()):
        return None
    return options


def _kinds(data: Mapping[str, Any] | None, reader: Reader) -> dict[Hashable, Any] | None:
    """The kinds of columns that the user chose, with factors where they are written as such."""
    columns = (data or {}).get("columns", {})
    if not isinstance(columns, Mapping):
        return None
    kinds: dict[Hashable, Any] = {}
    for name, kind in columns.items():
        if isinstance(kind, Mapping | Call) or (isinstance(kind, str) and is_call(kind)):
            kind = reader.part(kind, Factor, "factor")
        kinds[str(name)] = kind
    return None if any(isinstance(kind, Broken) for kind in kinds.values()) else kinds


def _frame(data: Mapping[str, Any] | None, folder: Path, reader: Reader) -> Any:
    """The rows of the file that the document names; None with a note where it cannot be read."""
    file = (data or {}).get("file")
    if not isinstance(file, str):
        return reader.note('a table is made of its data: name them, as in [data] file = "wine.csv"') and None
    try:
        return table_of(folder / file)
    except (DataError, ImportError) as error:
        reader.note(str(error))
    return None
