"""Packages of the extra ``data``, imported where a file needs one."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType


def needed(package: str, path: Path) -> ModuleType:
    """A package of the extra ``data``.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return import_module(package)
    except ImportError:
        raise ImportError(
            f"reading {Path(path).name} needs {package}: pip install 'pyro_lfm[data]'"
        ) from None
