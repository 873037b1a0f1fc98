"""Where Python objects keep what they hold, for ``Walk``: slots, closure cells, memory that only C reads."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any


def slots_of(kind: type) -> Iterator[str]:
    """The names of an object's slots, private ones as Python mangles them."""
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            if name not in ("__dict__", "__weakref__"):
                private = name.startswith("__") and not name.endswith("__")
                yield f"_{base.__name__.lstrip('_')}{name}" if private else name


def holds_all_in_attributes(kind: type) -> bool:
    """Whether an object holds everything in its attributes and slots, and nothing in memory that only C reads."""
    pointer = tuple.__itemsize__
    places = sum(map(bool, (kind.__dictoffset__ > 0, kind.__weakrefoffset__ > 0)))  # type: ignore[attr-defined]
    places += sum(1 for _ in slots_of(kind))
    return not kind.__itemsize__ and kind.__basicsize__ <= object.__basicsize__ + pointer * places


def content_of(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None
