"""``lfm.data.open``: a file or a folder as what ``lfm.fit`` takes, in which rows stay on the disk where they can."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pyro_lfm.data.files.data_formats import FORMATS, readable
from pyro_lfm.data.files.picture_folder import PICTURES, PictureFolder
from pyro_lfm.errors import DataError, DeclarationError

if TYPE_CHECKING:
    from pyro_lfm.data.files.data_formats import Opened

    Given = TypeVar("Given")


def open(
    path: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    colour: bool | None = None,
    attributes: str | os.PathLike[str] | None = None,
) -> Opened:
    """Opens a data file by the ending of its name. ``lfm.fit`` takes the path itself too.

    ================================ ============================== ===========================
    file                             opened as                      rows
    ================================ ============================== ===========================
    .npy                             a memory map                   stay on the disk
    .npz                             an array, or arrays by name    stay there unless compressed
    .csv, .tsv, .txt, also .gz       a pandas DataFrame             in memory
    .parquet                         a pandas DataFrame             in memory
    .h5ad                            AnnData                        X stays on the disk
    .zarr                            an array, arrays, or AnnData   stay on the disk
    a folder of .png, .jpg, .jpeg    ``PictureFolder``              stay on the disk
    ================================ ============================== ===========================

    CSV is recognised: comma, semicolon, tab or bar, decimal commas, quotes, encodings, a header or none, spellings of
    missing cells. ``lfm.data.CsvFile.read`` takes what is recognised wrongly.

    Args:
        path: of a file or a folder.
        size, colour, attributes: of a folder of pictures, see ``PictureFolder.open``.

    Raises:
        DataError: there is no such file, its ending is unknown, or it holds something else.
        ImportError: a package of the extra ``data`` is lacking.

    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/x.npy", np.zeros((100, 3)))
    ...     print(type(open(f"{folder}/x.npy")).__name__)
    memmap
    """
    path = Path(path)
    _check_exists(path)
    ending = ".zarr" if _is_zarr(path) else ending_of(path)
    if ending is None and path.is_dir():
        return PictureFolder.open(path, size=size, colour=colour, attributes=attributes)
    if size is not None or colour is not None or attributes is not None:
        raise DeclarationError(
            f"size, colour and attributes are those of a folder of pictures; {path} is a file"
        )
    if ending is None:
        raise DataError(
            f"{path} has no known ending: give a file that ends in {', '.join(FORMATS)}, or a folder of pictures"
        )
    if path.is_dir() and ending != ".zarr":
        raise DataError(
            f"{path} is a folder; a file was expected, or a folder of pictures ({', '.join(PICTURES)})"
        )
    with readable(path):
        return FORMATS[ending](path)


def ending_of(path: Path) -> str | None:
    """The known ending of a name, the longest that fits; None if there is none.

    >>> ending_of(Path("a.CSV.gz"))
    '.csv.gz'
    """
    name = path.name.lower()
    return max((ending for ending in FORMATS if name.endswith(ending)), key=len, default=None)


def _is_zarr(path: Path) -> bool:
    """Whether a folder is an array or a group of zarr, which may lie within another."""
    return any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))


def opened(data: Given | str | os.PathLike[str]) -> Given | Opened:
    """Data as they are, or what a path of them opens as."""
    return open(data) if isinstance(data, str | os.PathLike) else data


def _check_exists(path: Path) -> None:
    """Raises DataError with the nearest name in the folder if there is no such file."""
    try:
        if path.exists():
            return
    except (OSError, ValueError) as error:
        raise DataError(
            f"{str(path)[:200]!r} is no path: {getattr(error, 'strerror', None) or error}"
        ) from None
    parent = path.parent
    if not parent.is_dir():
        raise DataError(f"there is no file {path}, and no folder {parent}: check the path, from {Path.cwd()}")
    names = [
        each.name for each in parent.iterdir() if ending_of(each) or (each.is_dir() and each.name[0] != ".")
    ]
    close = difflib.get_close_matches(path.name, names, 1)
    remedy = f"did you mean {parent / close[0]}?" if close else f"{parent.resolve()} has {_listed(names)}"
    raise DataError(f"there is no file {path}: {remedy}")


def _listed(names: list[str], most: int = 8) -> str:
    shown = ", ".join(sorted(names)[:most])
    return (f"{shown}, ... ({len(names)} in all)" if len(names) > most else shown) or "no data"
