"""Files of rows that commands write: CSV, parquet, .npy and .npz, by the ending of their name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyro_lfm.errors import DataError
from pyro_lfm.storage.whole_files import whole_file

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

TABLES, ARRAYS = (".csv", ".parquet"), (".npy", ".npz")


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Writes a table as CSV or parquet, or its numbers as .npy or .npz."""
    import numpy as np

    with whole_file(path) as beside:
        if path.suffix == ".csv":
            frame.to_csv(beside, index=False)
        elif path.suffix == ".parquet":
            try:
                frame.rename(columns=str).to_parquet(beside, index=False)
            except ImportError:
                raise DataError(f"writing {path} needs pyarrow: pip install 'pyro_lfm[data]'") from None
        elif path.suffix == ".npz":
            np.savez(beside, **{str(name): _plain(frame[name].to_numpy()) for name in frame.columns})
        else:
            check_numbers(path, frame)
            np.save(beside, frame.to_numpy(dtype=float), allow_pickle=False)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], names: Mapping[str, list[str]]) -> None:
    """Writes arrays (N, ...) by name: as they are in .npz, one alone in .npy, side by side in a table.

    Args:
        names: {name: the names of its entries}, for tables.
    """
    import numpy as np

    if path.suffix == ".npz":
        with whole_file(path) as beside:
            np.savez(beside, **{name: _plain(array) for name, array in arrays.items()})
    elif path.suffix == ".npy":
        if len(arrays) > 1:
            raise DataError(f"{path} holds one array, and there are {', '.join(arrays)}: write an .npz file")
        with whole_file(path) as beside:
            np.save(beside, _plain(next(iter(arrays.values()))), allow_pickle=False)
    else:
        try:
            import pandas as pd
        except ImportError:
            raise DataError(f"writing {path} needs pandas: pip install 'pyro_lfm[data]'") from None
        columns = {
            column: array.reshape(len(array), -1)[:, k]
            for name, array in arrays.items()
            for k, column in enumerate(names[name])
        }
        write_frame(path, pd.DataFrame(columns))


def entries_of(name: str, shape: tuple[int, ...]) -> list[str]:
    """Names of the entries of an event, such as z_1 and z_2; the name itself for a single number.

    >>> entries_of("z", (2,)), entries_of("c", ())
    (['z_1', 'z_2'], ['c'])
    """
    size = 1
    for length in shape:
        size *= length
    return [name] if not shape else [f"{name}_{k + 1}" for k in range(size)]


def check_numbers(path: Path, frame: pd.DataFrame) -> None:
    """Raises DataError where a table has columns that an array of numbers cannot hold."""
    from pandas.api import types

    for name in frame.columns:
        if not types.is_numeric_dtype(frame[name].dtype):
            raise DataError(
                f"{path} holds numbers alone, and column {name} has none: write a .csv or .parquet file"
            )


def _plain(array: np.ndarray) -> Any:
    """An array that is stored without pickle: text in place of objects."""
    return array.astype(str) if array.dtype.kind == "O" else array
