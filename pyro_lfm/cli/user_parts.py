"""``--parts FILE``: the classes and functions of a user's own file, the only one that the command line imports."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import extract_tb
from types import FunctionType
from typing import Annotated, TypeAlias

import typer

from pyro_lfm.errors import DeclarationError

# The option, for the signature of a command.
PartsFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--parts", help="A Python file with parts of your own, which is run.", metavar="FILE"),
]


def parts_of(file: Path | None) -> list[type | FunctionType]:
    """The classes and functions that a file defines, whose import also registers those that it registers.

    Args:
        file: the path of a Python file; None for no parts.

    Raises:
        DeclarationError: there is no such file, its name is that of another module, or its code raises an error.
    """
    if file is None:
        return []
    name, place = file.stem, file.resolve()
    if file.suffix != ".py" or not file.is_file():
        raise DeclarationError(f"--parts must be a Python file, such as my_parts.py; got {str(file)!r}")
    known = sys.modules.get(name)
    if not name.isidentifier() or (known is not None and getattr(known, "__file__", None) != str(place)):
        raise DeclarationError(
            f"--parts must be a file whose name is a Python name and not the name of another module; got {name!r}: rename it"
        )
    spec = spec_from_file_location(name, place)
    if spec is None or spec.loader is None:
        raise DeclarationError(f"--parts must be a Python file that can be imported; got {str(file)!r}")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == str(place)]
        where = f" (line {lines[-1]})" if lines else ""
        raise DeclarationError(
            f"{file} cannot be imported: {type(error).__name__}: {error}{where}"
        ) from error
    own = [value for value in vars(module).values() if getattr(value, "__module__", None) == name]
    return [value for value in own if isinstance(value, type | FunctionType)]
