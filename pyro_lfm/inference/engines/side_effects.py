"""``changes_nothing``: whether a function that runs between steps, such as a schedule, provably has no side effects."""

from __future__ import annotations

import builtins
import dis
import math
from collections.abc import Callable
from types import CellType, FunctionType, ModuleType
from typing import Any

import numpy as np

from pyro_lfm.inference.engines.reads import is_library

_CHANGING = (
    *("STORE_ATTR", "STORE_SUBSCR", "STORE_GLOBAL", "STORE_DEREF", "STORE_SLICE"),
    *("DELETE_", "IMPORT_", "YIELD_"),
)
_OF_NUMBERS = frozenset("abs bool divmod float int len max min pow range round sum".split())


def changes_nothing(function: Callable[..., float]) -> bool:
    """Whether the code of a function of a number proves that a call changes nothing.

    >>> changes_nothing(lambda fraction: min(1.0, 2 * fraction) * math.cos(math.pi * fraction))
    True
    >>> changes_nothing(lambda fraction: print(fraction))
    False
    """
    return _proved(function, ())


def _proved(function: Callable[..., float], within: tuple[FunctionType, ...]) -> bool:
    if not isinstance(function, FunctionType):
        # The schedules of lfm.schedules are values.
        return is_library(type(function).__module__) and type(function).__module__.startswith("pyro_lfm")
    if function in within:
        return True
    code = function.__code__
    cells = [_content(cell) for cell in function.__closure__ or ()]
    read: list[Any] = [value for value in cells if callable(value)]
    methods: set[str] = set()
    for instruction in dis.get_instructions(code):
        name = instruction.opname
        if name.startswith(_CHANGING) or name == "MAKE_FUNCTION":
            return False
        if name == "LOAD_GLOBAL":
            value = function.__globals__.get(instruction.argval, getattr(builtins, instruction.argval, None))
            if callable(value) and instruction.argval not in _OF_NUMBERS:
                read.append(value)
            elif isinstance(value, ModuleType) and value not in (math, np):
                return False
        elif name in ("LOAD_METHOD", "LOAD_ATTR"):
            methods.add(instruction.argval)
    if not all(hasattr(math, name) or isinstance(getattr(np, name, None), np.ufunc) for name in methods):
        return False
    return all(_proved(value, (*within, function)) for value in read)


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None
