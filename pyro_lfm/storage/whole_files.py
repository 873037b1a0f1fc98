"""``whole_file``: a file that is written whole or not at all; front ends write theirs by it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyro_lfm.errors import DataError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A context that gives a temporary name with the same ending, which becomes the file when the context ends well.

    Raises:
        DataError: the file cannot be written. What was there before stays.
    """
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield beside
        os.replace(beside, path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}; nothing was changed") from None
    finally:
        with suppress(OSError):
            beside.unlink()
