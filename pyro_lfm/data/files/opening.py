"""``lfm.data.open``: a file or a folder as what ``lfm.fit`` takes, in which rows stay on the disk where they can."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from pyro_lfm.data.files.data_formats import FORMATS, parquet_files, readable
from pyro_lfm.data.files.picture_folder import PICTURES, PictureFolder
from pyro_lfm.errors import DataError, DeclarationError

if TYPE_CHECKING:
    from pyro_lfm.data.files.data_formats import Opened

    Given = TypeVar("Given")


def open(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
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
    .parquet, numbers over 256 MiB   ``ParquetRows``                stay on the disk
    a folder or list of .parquet     ``ParquetRows``                stay on the disk
    .h5ad                            AnnData                        X stays on the disk
    .zarr                            an array, arrays, or AnnData   stay on the disk
    a folder of .png, .jpg, .jpeg    ``PictureFolder``              stay on the disk
    ================================ ============================== ===========================

    CSV is recognised: comma, semicolon, tab or bar, decimal commas, quotes, encodings, a header or none, spellings of
    missing cells. ``lfm.data.CsvFile.read`` takes what is recognised wrongly.

    Args:
        path: of a file or a folder, or several of parquet files, whose rows follow each other.
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
    if isinstance(path, list | tuple):
        return _several([Path(each) for each in path])
    path = Path(cast("str | os.PathLike[str]", path))
    _check_exists(path)
    ending = ".zarr" if _is_zarr(path) else ending_of(path)
    if path.is_dir() and ending in (None, ".parquet") and (parts := parquet_files_in(path)):
        return _several(parts)
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


def _several(paths: list[Path]) -> Opened:
    """Parquet files whose rows follow each other."""
    for path in paths:
        _check_exists(path)
        if ending_of(path) != ".parquet":
            raise DataError(
                f"several files must all be .parquet; got {path}: give {{name: path}} for factors"
            )
    if not paths:
        raise DataError("no files were given: give the path of one")
    with readable(paths[0]):
        return parquet_files(paths)


def parquet_files_in(folder: Path) -> list[Path]:
    """The parquet files of a folder and its subfolders, by name."""
    files = sorted(path for path in folder.rglob("*.parquet") if path.name[0] not in "._")
    return files if files and all(path.is_file() for path in files) else []


def ending_of(path: Path) -> str | None:
    """The known ending of a name, the longest that fits; None if there is none.

    >>> ending_of(Path("a.CSV.gz"))
    '.csv.gz'
    """
    name = path.name.lower()
    return max((ending for ending in FORMATS if name.endswith(ending)), key=len, default=None)


def ending_of_path(path: Path) -> str | None:
    """The ending that says how a path is opened: that of its name, or of what is in a folder of zarr or parquet files.

    Raises:
        DataError: there is no such file.
    """
    _check_exists(path)
    if not path.is_dir():
        return ending_of(path)
    return ".zarr" if _is_zarr(path) else ".parquet" if parquet_files_in(path) else None


def _is_zarr(path: Path) -> bool:
    """Whether a folder is an array or a group of zarr, which may lie within another."""
    return any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))


def opened(data: Given | str | os.PathLike[str]) -> Given | Opened:
    """Data as they are, or what a path of them opens as; a list of paths of parquet files too."""
    if isinstance(data, list | tuple) and data and all(_is_parquet(each) for each in data):
        return open(data)
    return open(data) if isinstance(data, str | os.PathLike) else data


def _is_parquet(path: object) -> bool:
    return isinstance(path, str | os.PathLike) and ending_of(Path(path)) == ".parquet"


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
