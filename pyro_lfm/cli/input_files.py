"""The data files of the command line: what is in them, as ``lfm.fit`` takes it, with errors that name the file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pyro_lfm.errors import DataError

if TYPE_CHECKING:
    import anndata
    import numpy as np
    import pandas as pd

    from pyro_lfm.data.csv_text import CsvFile

    # The rows of a file: a table, an array, arrays by name, or counts with annotations.
    Rows: TypeAlias = pd.DataFrame | np.ndarray | Mapping[str, np.ndarray] | anndata.AnnData

TEXT = (".csv", ".tsv", ".txt", ".csv.gz")
ENDINGS = (*TEXT, ".parquet", ".npy", ".npz", ".h5ad")


@dataclass(frozen=True, eq=False)
class DataFile:
    """A file that was read.

    Attributes:
        path: where it is.
        rows: what is in it.
        text: a CSV file as it is written; None for other formats.
    """

    path: Path
    rows: Rows
    text: CsvFile | None = None

    @property
    def frame(self) -> pd.DataFrame | None:
        """The rows, if they are a table with named columns."""
        return self.rows if _is_frame(self.rows) else None  # type: ignore[return-value]

    def __len__(self) -> int:
        if isinstance(self.rows, Mapping):
            return len(next(iter(self.rows.values())))
        return int(self.rows.shape[0])  # type: ignore[union-attr]

    def take(self, places: np.ndarray) -> DataFile:
        """Some of the rows, by their places (B,)."""
        if isinstance(self.rows, Mapping):
            return DataFile(self.path, {name: array[places] for name, array in self.rows.items()})
        frame = self.frame
        return DataFile(self.path, self.rows[places] if frame is None else frame.iloc[places])  # type: ignore[index]


def read_data(path: Path, leave_out: Iterable[str] = ()) -> DataFile:
    """Reads a data file: CSV, parquet, .npy, .npz or .h5ad.

    Args:
        leave_out: columns of a table that are not wanted.

    Raises:
        DataError: there is no such file, or it cannot be read.
    """
    check_file(path, "DATA")
    ending = next((end for end in ENDINGS if path.name.lower().endswith(end)), None)
    if path.suffix == ".toml":
        raise DataError(f"{path} is a declaration; DATA must be a file with rows, such as wine.csv")
    if ending is None:
        raise DataError(f"{path} is no data file: its name must end in {', '.join(ENDINGS)}")
    try:
        file = _read(path, ending)
    except MemoryError:
        raise DataError(f"{path} does not fit into memory: give a part of its rows") from None
    frame = file.frame
    kept = frame
    if frame is not None and (unwanted := [name for name in leave_out if name in frame.columns]):
        kept = frame.drop(columns=unwanted)
        file = DataFile(path, kept, file.text)
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
    return f"; did you mean {path.parent / close[0]}?" if close else ""


def _read(path: Path, ending: str) -> DataFile:
    import numpy as np

    try:
        if ending in TEXT:
            from pyro_lfm.data.csv_text import CsvFile

            text = CsvFile.read(path)
            return DataFile(path, text.frame(), text)
        if ending == ".parquet":
            import pandas as pd

            return DataFile(path, pd.read_parquet(path))
        if ending == ".h5ad":
            import anndata

            return DataFile(path, anndata.read_h5ad(path))
        loaded = np.load(path, allow_pickle=False)
        return DataFile(path, loaded if ending == ".npy" else {name: loaded[name] for name in loaded.files})
    except DataError:
        raise
    except ImportError as error:
        needed = error.name or "pandas"
        raise DataError(f"reading {path} needs {needed}: pip install 'pyro_lfm[data]'") from None
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or 'it is no ' + ending + ' file'}"
        ) from None
    except (ValueError, KeyError, EOFError) as error:
        why = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"{path} cannot be read as {ending}: {why[0]}") from None


def _is_frame(rows: Rows) -> bool:
    return type(rows).__module__.startswith("pandas")
