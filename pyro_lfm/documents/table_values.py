"""The columns of a mixed table as JSON, for saved fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyro_lfm.errors import DataError
from pyro_lfm.storage.texts import Json
from pyro_lfm.storage.trees import Tree, tree_of, value_of
from pyro_lfm.tables.columns import Column
from pyro_lfm.tables.table_columns import TableColumns

if TYPE_CHECKING:
    import pandas as pd


def table_entry(table: TableColumns) -> dict[str, Any]:
    """The columns of a table, their kinds, levels and scales, and the factors that they belong to."""
    return {
        "columns": [_column(column) for column in table.columns],
        "groups": [
            {
                "factor": name,
                "columns": [_outline(column) for column in columns],
                "shape": list(table.shapes[name]),
            }
            for name, columns in table.groups.items()
        ],
    }


def _column(column: Column) -> dict[str, Any]:
    return {
        "name": _outline(column.name),
        "kind": column.kind,
        "why": column.why,
        "dtype": _dtype(column.dtype),
        "levels": None if column.levels is None else _index(column.levels),
        "loc": _outline(column.loc),
        "scale": _outline(column.scale),
        "whole": column.whole,
    }


def _outline(value: Any) -> Json:
    return tree_of(value, "a column").outline


def _index(index: pd.Index) -> dict[str, Any]:
    return {"values": [_outline(value) for value in index.tolist()], "dtype": _dtype(index.dtype)}


def _dtype(dtype: Any) -> Any:
    """A type of NumPy or pandas by its name; a category with its levels."""
    import pandas as pd

    if isinstance(dtype, pd.CategoricalDtype):
        categories = None if dtype.categories is None else _index(dtype.categories)
        return {"categories": categories, "ordered": bool(dtype.ordered)}
    return str(dtype)


def read_table(entry: Any, what: str) -> TableColumns:
    """The columns of an entry that ``table_entry`` made.

    Raises:
        DataError: the entry is none, or pandas is not installed.
    """
    try:
        import pandas  # noqa: F401
    except ImportError:
        raise DataError(f"{what} holds a table, which needs pandas: pip install 'pyro_lfm[data]'") from None
    try:
        columns = tuple(_read_column(column, what) for column in entry["columns"])
        groups = {
            str(group["factor"]): tuple(_read(name, what) for name in group["columns"])
            for group in entry["groups"]
        }
        shapes = {str(group["factor"]): tuple(map(int, group["shape"])) for group in entry["groups"]}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{what} cannot be read: its entry table has a form that the library does not write"
        ) from None
    return TableColumns(columns, groups, shapes)


def _read_column(entry: Any, what: str) -> Column:
    return Column(
        name=_read(entry["name"], what),
        kind=str(entry["kind"]),
        why=str(entry["why"]),
        dtype=_read_dtype(entry["dtype"], what),
        levels=None if entry["levels"] is None else _read_index(entry["levels"], what),
        loc=float(_read(entry["loc"], what)),
        scale=float(_read(entry["scale"], what)),
        whole=bool(entry["whole"]),
    )


def _read(outline: Json, what: str) -> Any:
    return value_of(Tree(outline, {}), what)


def _read_index(entry: Any, what: str) -> pd.Index:
    import pandas as pd

    return pd.Index(
        [_read(value, what) for value in entry["values"]], dtype=_read_dtype(entry["dtype"], what)
    )


def _read_dtype(entry: Any, what: str) -> Any:
    import pandas as pd

    if isinstance(entry, dict):
        categories = None if entry["categories"] is None else _read_index(entry["categories"], what)
        return pd.CategoricalDtype(categories, bool(entry["ordered"]))
    return pd.api.types.pandas_dtype(str(entry))
