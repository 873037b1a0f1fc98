"""``DataFile``: what is in a data file, as ``lfm.fit`` takes it, with errors that name the file; for front ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyro_lfm.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pyro_lfm.data import CsvFile

# The endings of tables as text, and of all data files.
TEXT = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz")
DATA = (*TEXT, ".parquet", ".npy", ".npz", ".h5ad", ".zarr")


@dataclass(frozen=True, eq=False)
class DataFile:
    """A file that was read, or a folder of pictures.

    Attributes:
        path: where it is.
        rows: what is in it, as ``lfm.data.open`` gives it.
        text: a CSV file as it is written; None for other formats.
    """

    path: Path
    rows: Any
    text: CsvFile | None = None

    @property
    def frame(self) -> pd.DataFrame | None:
        """The rows, if they are a table with named columns."""
        return self.rows if type(self.rows).__module__.startswith("pandas") else None

    @property
    def arrays(self) -> dict[str, Any] | None:
        """The arrays of a file that holds several by name."""
        return dict(self.rows) if isinstance(self.rows, Mapping) else None

    def __len__(self) -> int:
        rows = next(iter(self.rows.values())) if isinstance(self.rows, Mapping) else self.rows
        # A sparse matrix has a shape and no length, a folder of pictures the shape of one.
        return len(rows) if hasattr(rows, "names") else int(rows.shape[0])

    def take(self, places: np.ndarray) -> DataFile:
        """Some of the rows, by their places (B,)."""
        if isinstance(self.rows, Mapping):
            return DataFile(self.path, {name: _rows_at(each, places) for name, each in self.rows.items()})
        frame = self.frame
        return DataFile(self.path, _rows_at(self.rows, places) if frame is None else frame.iloc[places])


def _rows_at(rows: Any, places: np.ndarray) -> Any:
    return getattr(rows, "oindex", rows)[places]


def read_data(path: Path, leave_out: Iterable[str] = ()) -> DataFile:
    """Reads a data file, or opens one that stays on the disk.

    Args:
        leave_out: columns of a table that are not wanted.

    Raises:
        DataError: there is no such file, or it cannot be read.
    """
    if path.suffix == ".toml" and path.exists():
        raise DataError(f"{path} is a declaration; DATA must be a file with rows, such as wine.csv")
    if (path / "fit.json").is_file():
        raise DataError(f"{path} is the folder of a fit; DATA must be a file with rows, such as wine.csv")
    import pyro_lfm as lfm

    text = lfm.data.CsvFile.read(path) if path.name.lower().endswith(TEXT) and path.is_file() else None
    rows: Any = lfm.data.open(path) if text is None else text.frame()
    file = DataFile(path, rows, text)
    frame = file.frame
    if frame is not None and (unwanted := [name for name in leave_out if name in frame.columns]):
        file = DataFile(path, frame.drop(columns=unwanted), text)
    if not len(file):
        raise DataError(f"{path} has no rows")
    return file


def check_file(path: Path, what: str) -> None:
    """Raises DataError where a path is that of no file, with the nearest name in its folder."""
    if path.is_dir():
        raise DataError(f"{what} must be a file; {path} is a folder: name the file in it")
    if not path.exists():
        raise DataError(f"there is no file {path}{_near(path)}")


def _near(path: Path) -> str:
    """The words "; did you mean wine.csv?" for the nearest name in a folder, or the folder that is not there."""
    if not path.parent.is_dir():
        return f": there is no folder {path.parent}"
    close = get_close_matches(path.name, [other.name for other in path.parent.iterdir()], 1)
    return f"; did you mean {path.parent / close[0]}?" if close else ": check the name"
