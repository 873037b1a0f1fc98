"""Digests of code, and the values that code reads, for ``value_digests``: edited code has another digest."""

from __future__ import annotations

import dis
import hashlib
import inspect
import sys
from collections.abc import Iterator
from functools import cached_property
from types import CellType, CodeType, EllipsisType, FunctionType
from typing import Any, TypeAlias

from torch import nn

# A constant of code, as Python's compiler makes them.
Constant: TypeAlias = (
    "CodeType | tuple[Constant, ...] | frozenset[Constant] | str | bytes | complex | EllipsisType | None"
)

_LIBRARIES = {"torch", "pyro", "numpy", "pyro_lfm", *sys.stdlib_module_names}
_INSTALLED = ("site-packages", "dist-packages")
# The attributes that torch gives every module beside its parameters, buffers and submodules: hooks and flags.
_OF_MODULES = frozenset(vars(nn.Module()))


def is_library(value: type | FunctionType) -> bool:
    """Whether a class or a function belongs to an installed package, where its name identifies it."""
    name = value.__module__ if isinstance(value, type) else value.__globals__.get("__name__")
    if name == "builtins" and isinstance(value, FunctionType):
        return False
    return is_library_module(name)


def is_library_module(name: str | None) -> bool:
    """Whether the module of this name belongs to an installed package or to Python itself."""
    if name == "__main__" or not isinstance(name, str):
        return False
    top = name.partition(".")[0]
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    return top in _LIBRARIES or any(part in file for part in _INSTALLED)


def of_code(code: CodeType) -> str:
    """A digest of instructions and constants, inner functions included, line numbers left out."""
    digest = hashlib.sha256(code.co_code)
    digest.update(code.co_exceptiontable)
    for constant in code.co_consts:
        digest.update(_of_constant(constant).encode())
    digest.update(repr((code.co_names, code.co_freevars)).encode())
    return digest.hexdigest()[:16]


def reads(function: FunctionType) -> dict[str, Any]:
    """{name: value} of the globals that a function and the functions within it read."""
    names = dict.fromkeys(_globals(function.__code__))
    return {name: function.__globals__[name] for name in names if name in function.__globals__}


def holds(function: FunctionType) -> list[Any]:
    """The values that a function closes over, and its defaults."""
    keywords = function.__kwdefaults__ or {}
    return [
        *(_content(cell) for cell in function.__closure__ or ()),
        *(function.__defaults__ or ()),
        *(keywords[name] for name in sorted(keywords)),
    ]


def written(kind: type) -> dict[str, Any]:
    """{name: function or value} of a class and of those of its bases that the user wrote."""
    entries: dict[str, Any] = {}
    for base in kind.__mro__:
        if is_library(base):
            entries[f"base {base.__module__}.{base.__qualname__}"] = None
            continue
        for name, value in vars(base).items():
            functions = _functions(value)
            if functions:
                entries |= {
                    f"{base.__qualname__}.{name}{part}": function for part, function in functions.items()
                }
            elif (
                not name.startswith("__")
                and not name.startswith("_abc_")
                and not inspect.isdatadescriptor(value)
            ):
                entries[f"{base.__qualname__}.{name}"] = value
    return entries


def attributes(value: object) -> dict[str, Any]:
    """The attributes of an object by name, with slots, and with private ones where the user wrote the class."""
    held = dict(getattr(value, "__dict__", {}))
    bases = type(value).__mro__
    for base in bases:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            place = f"_{base.__name__.lstrip('_')}{name}" if name.startswith("__") else name
            if place not in held and not name.endswith("__") and hasattr(value, place):
                held[place] = getattr(value, place)
    if isinstance(value, nn.Module):
        held |= value._parameters | value._buffers | value._modules
        held.pop("training", None)
    private = not is_library(type(value))
    inner = _of_libraries(bases) if private else frozenset()
    return {
        name: entry
        for name, entry in held.items()
        if not name.startswith("_")
        or (private and name not in inner and not name.startswith(("__", "_cache", "_pyro_")))
    }


def _of_libraries(bases: tuple[type, ...]) -> frozenset[str]:
    """The names that libraries' code uses in the bases of a class. Such attributes are theirs, and some vary by chance."""
    functions = [
        f for base in bases if is_library(base) for v in vars(base).values() for f in _functions(v).values()
    ]
    return _OF_MODULES.union(*(function.__code__.co_names for function in functions))


def _functions(value: object) -> dict[str, FunctionType]:
    """The functions of an entry of a class, by the suffix that tells the parts of a property apart."""
    parts: dict[str, Any]
    if isinstance(value, property):
        parts = {".get": value.fget, ".set": value.fset, ".del": value.fdel}
    elif isinstance(value, cached_property):
        parts = {"": value.func}
    else:
        parts = {"": value.__func__ if isinstance(value, staticmethod | classmethod) else value}
    return {part: function for part, function in parts.items() if isinstance(function, FunctionType)}


def _globals(code: CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals(constant)


def _of_constant(constant: Constant) -> str:
    if isinstance(constant, CodeType):
        return of_code(constant)
    if isinstance(constant, tuple):
        return f"({', '.join(map(_of_constant, constant))})"
    # The order of a set differs from process to process.
    return str(sorted(map(_of_constant, constant))) if isinstance(constant, frozenset) else repr(constant)


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None
