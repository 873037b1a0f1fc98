"""What code does, as digests and as the values that it reads: edited code is other code."""

from __future__ import annotations

import dis
import hashlib
import inspect
import sys
from collections.abc import Iterator
from functools import cached_property
from types import CodeType, FunctionType
from typing import Any

from torch import nn

_LIBRARIES = {"torch", "pyro", "numpy", "pyro_lfm", *sys.stdlib_module_names}
_INSTALLED = ("site-packages", "dist-packages")
# What torch keeps in every module beside parameters, buffers and modules: hooks, flags.
_OF_MODULES = frozenset(vars(nn.Module()))


def is_library(value: type | FunctionType) -> bool:
    """Whether a class or a function is of an installed package, known by its name, not written by the user."""
    name = value.__module__ if isinstance(value, type) else value.__globals__.get("__name__")
    if name == "builtins" and isinstance(value, FunctionType):
        return False
    return is_library_module(name)


def is_library_module(name: Any) -> bool:
    """Whether a module of this name is of an installed package or of Python itself."""
    if name == "__main__" or not isinstance(name, str):
        return False
    top = name.partition(".")[0]
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    return top in _LIBRARIES or any(part in file for part in _INSTALLED)


def of_code(code: CodeType) -> str:
    """A digest of instructions and constants, those of functions within included; not of line numbers."""
    digest = hashlib.sha256(code.co_code)
    digest.update(code.co_exceptiontable)
    for constant in code.co_consts:
        digest.update(_of_constant(constant).encode())
    digest.update(repr((code.co_names, code.co_freevars)).encode())
    return digest.hexdigest()[:16]


def reads(function: FunctionType) -> dict[str, Any]:
    """{name: value} of the globals that a function reads, those read by functions within it included."""
    names = dict.fromkeys(_globals(function.__code__))
    return {name: function.__globals__[name] for name in names if name in function.__globals__}


def holds(function: FunctionType) -> list[Any]:
    """What a function closes over, and its defaults."""
    keywords = function.__kwdefaults__ or {}
    return [
        *(_content(cell) for cell in function.__closure__ or ()),
        *(function.__defaults__ or ()),
        *(keywords[name] for name in sorted(keywords)),
    ]


def written(kind: type) -> dict[str, Any]:
    """{name: function or value} of a class and its bases as far as the user wrote them."""
    found: dict[str, Any] = {}
    for base in kind.__mro__:
        if is_library(base):
            found[f"base {base.__module__}.{base.__qualname__}"] = None
            continue
        for name, value in vars(base).items():
            functions = _functions(value)
            if functions:
                found |= {
                    f"{base.__qualname__}.{name}{part}": function for part, function in functions.items()
                }
            elif (
                not name.startswith("__")
                and not name.startswith("_abc_")
                and not inspect.isdatadescriptor(value)
            ):
                found[f"{base.__qualname__}.{name}"] = value
    return found


def attributes(value: Any) -> dict[str, Any]:
    """The attributes of an object by name: of one whose class the user wrote, private ones and slots too."""
    found = dict(getattr(value, "__dict__", {}))
    bases = type(value).__mro__
    for base in bases:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            place = f"_{base.__name__.lstrip('_')}{name}" if name.startswith("__") else name
            if place not in found and not name.endswith("__") and hasattr(value, place):
                found[place] = getattr(value, place)
    if isinstance(value, nn.Module):
        found |= value._parameters | value._buffers | value._modules
        found.pop("training", None)
    private = not is_library(type(value))
    inner = _of_libraries(bases) if private else frozenset()
    return {
        name: entry
        for name, entry in found.items()
        if not name.startswith("_")
        or (private and name not in inner and not name.startswith(("__", "_cache", "_pyro_")))
    }


def _of_libraries(bases: tuple[type, ...]) -> frozenset[str]:
    """What libraries name in the classes that the user built upon: theirs to keep, and some of it varies."""
    functions = [
        f for base in bases if is_library(base) for v in vars(base).values() for f in _functions(v).values()
    ]
    return _OF_MODULES.union(*(function.__code__.co_names for function in functions))


def _functions(value: Any) -> dict[str, FunctionType]:
    """The functions that an entry of a class is made of, by a suffix."""
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


def _of_constant(constant: Any) -> str:
    if isinstance(constant, CodeType):
        return of_code(constant)
    if isinstance(constant, tuple):
        return f"({', '.join(map(_of_constant, constant))})"
    # The order of a set is another in every process.
    return str(sorted(map(_of_constant, constant))) if isinstance(constant, frozenset) else repr(constant)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None
