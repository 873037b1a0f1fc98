"""Reads the text of a document from a dict, a string or a file, before its sections are read."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyro_lfm.errors import DataError, DeclarationError, DocumentError

# A text of this many bytes holds any declaration; larger files are something else.
_BYTES = 2**24


def document_of(source: Any) -> tuple[Mapping[str, Any], Path]:
    """The document of a source, and the folder in which its files lie."""
    if isinstance(source, Mapping):
        return source, Path()
    is_path = isinstance(source, os.PathLike) or (
        isinstance(source, str) and "\n" not in source and source.endswith(".toml")
    )
    if not is_path and not isinstance(source, str):
        raise DeclarationError(
            f"a declaration is read from a dict, the text of a document, or a path that ends in .toml; got {source!r}"
        )
    folder, text = Path(), source
    if is_path:
        folder, text = Path(source).parent, _text(Path(source))
    if len(text) > _BYTES:
        raise DocumentError([("", f"a document may have {_BYTES} bytes; got {len(text)}")])
    try:
        return tomllib.loads(text), folder
    except RecursionError:
        raise DocumentError([("", "is nested too deep")]) from None
    except tomllib.TOMLDecodeError as error:
        raise DocumentError([("", f"is no TOML: {error}")]) from None
    except ValueError:
        raise DocumentError([("", "is no TOML: it holds a number of too many digits")]) from None


def _text(path: Path) -> str:
    """The text of a file."""
    try:
        size = path.stat().st_size
        if size > _BYTES:
            raise DataError(f"{path} has {size} bytes; a declaration has at most {_BYTES}")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{path} is no text in UTF-8: is it a declaration?") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path} cannot be read: {why}") from None
