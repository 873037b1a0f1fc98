"""``ParquetRows``: the numbers of parquet files beyond memory, read row group by row group; ``lfm.data.open`` makes them."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyro_lfm.data.files.required_package import needed
from pyro_lfm.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from pyarrow.parquet import FileMetaData

# The rows whose columns are put side by side at a time, so that they stay in a processor's cache.
_AT_ONCE = 1024


@dataclass(frozen=True)
class RowGroup:
    """A row group: the number of its file, its number in it, and its rows."""

    file: int
    number: int
    rows: int


class ParquetRows:
    """Rows of numbers in parquet files, which stay on the disk: a container of rows (N, D).

    A row group is read as a whole, by the calling thread alone. The one that was read last in part is kept, so that a pass
    from front to back reads each once.

    Args:
        paths: the files, whose rows follow each other. All have the same columns.

    Attributes:
        names: the names of the columns.
        starts: the first row of each row group.
        dtype: int64 where all columns hold whole numbers and none is missing, float32 where they hold no wider numbers,
            else float64.

    Raises:
        DataError: files with different columns, or a column that holds no numbers.
        ImportError: without pyarrow, which the extra ``pyro_lfm[data]`` installs.

    >>> import pandas as pd, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.parquet")
    ...     pd.DataFrame({"a": [1, 2, 3], "b": [4, 5, 6]}).to_parquet(path, row_group_size=2)
    ...     rows = ParquetRows([path])
    ...     print(rows, rows.starts, rows[np.array([2, 0])].tolist())
    ParquetRows(3 rows of 2 columns, 2 row groups in 1 file) [0, 2] [[3, 6], [1, 4]]
    """

    def __init__(self, paths: Sequence[Path]):
        self.paths = tuple(paths)
        self._metadata = [_metadata(path) for path in self.paths]
        first = self._metadata[0].schema.to_arrow_schema()
        self.names: tuple[Hashable, ...] = tuple(name for name in first.names if name != "__index_level_0__")
        for path, metadata in zip(self.paths, self._metadata, strict=True):
            _check_columns(path, metadata, self.paths[0], first, self.names)
        self.groups = [
            RowGroup(file, number, metadata.row_group(number).num_rows)
            for file, metadata in enumerate(self._metadata)
            for number in range(metadata.num_row_groups)
            if metadata.row_group(number).num_rows
        ]
        self._ends = [*accumulate(group.rows for group in self.groups)]
        self.dtype = self._dtype(first)
        self._kept: tuple[int, np.ndarray] | None = None
        self._lock = threading.Lock()

    @property
    def starts(self) -> list[int]:
        return [0, *self._ends[:-1]]

    @property
    def shape(self) -> tuple[int, int]:
        return (self._ends[-1] if self._ends else 0), len(self.names)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        files = f"{len(self.paths)} file{'s' * (len(self.paths) > 1)}"
        return f"ParquetRows({len(self)} rows of {len(self.names)} columns, {len(self.groups)} row groups in {files})"

    def __getstate__(self) -> tuple[Path, ...]:
        return self.paths

    def __setstate__(self, paths: tuple[Path, ...]) -> None:
        self.__init__(paths)  # type: ignore[misc]

    def __getitem__(self, index: np.ndarray | slice) -> np.ndarray:
        """The rows at an index (B,), which may repeat and needs no order: (B, D)."""
        index = np.arange(len(self))[index] if isinstance(index, slice) else np.asarray(index)
        rows = np.empty((len(index), len(self.names)), self.dtype)
        groups = np.searchsorted(self._ends, index, side="right")
        for group in np.unique(groups):
            here = np.flatnonzero(groups == group)
            places = index[here] - self.starts[group]
            if len(here) == self.groups[group].rows and (places == np.arange(len(here))).all():
                self._read(group, rows[here[0] : here[-1] + 1])
            else:
                rows[here] = self._part_of(group)[places]
        return rows

    def frame(self) -> pd.DataFrame:
        """All rows as a DataFrame, in memory."""
        import pandas as pd

        return pd.concat([pd.read_parquet(path) for path in self.paths], ignore_index=True)

    def group_of(self, row: int) -> int:
        """The number of the row group that holds a row."""
        return bisect_right(self._ends, row)

    def _part_of(self, group: int) -> np.ndarray:
        """A row group of which a part is wanted, and perhaps more of it soon."""
        with self._lock:
            kept = self._kept
        if kept is not None and kept[0] == group:
            return kept[1]
        self._kept = None  # before the memory for the next
        rows = np.empty((self.groups[group].rows, len(self.names)), self.dtype)
        self._read(group, rows)
        with self._lock:
            self._kept = group, rows
        return rows

    def _read(self, group: int, into: np.ndarray) -> None:
        """Reads a row group into an array (rows, D)."""
        from pyarrow.parquet import ParquetFile

        self._kept = None if self._kept is not None and self._kept[0] != group else self._kept
        place = self.groups[group]
        path, metadata = self.paths[place.file], self._metadata[place.file]
        # Mapped, so that what is compressed takes no memory of the process.
        with ParquetFile(path, metadata=metadata, memory_map=True, pre_buffer=False) as file:
            table = file.read_row_group(place.number, [str(name) for name in self.names], use_threads=False)
        columns = [_numbers(table.column(k)) for k in range(table.num_columns)]
        for start in range(0, len(into), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            np.stack([column[part] for column in columns], 1, out=into[part], casting="unsafe")

    def _dtype(self, schema: pa.Schema) -> np.dtype[np.generic]:
        from pyarrow import types

        kinds = [schema.field(str(name)).type for name in self.names]
        if all(types.is_integer(kind) or types.is_boolean(kind) for kind in kinds) and not self._gaps:
            return np.dtype(np.int64)
        narrow = all(types.is_float32(kind) or types.is_float16(kind) for kind in kinds)
        return np.dtype(np.float32 if narrow else np.float64)

    @property
    def _gaps(self) -> bool:
        """Whether a cell is missing, or may be."""
        return any(
            (statistics := metadata.row_group(number).column(k).statistics) is None
            or not statistics.has_null_count
            or statistics.null_count > 0
            for metadata in self._metadata
            for number in range(metadata.num_row_groups)
            for k in range(metadata.num_columns)
        )


def is_large(path: Path, limit: int) -> bool:
    """Whether a parquet file has numbers alone, and its cells take more than so many bytes, uncompressed."""
    metadata = _metadata(path)
    size = sum(metadata.row_group(k).total_byte_size for k in range(metadata.num_row_groups))
    return size > limit and all(_is_number(kind) for kind in metadata.schema.to_arrow_schema().types)


def _is_number(kind: pa.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _metadata(path: Path) -> FileMetaData:
    needed("pyarrow", path)
    from pyarrow.parquet import read_metadata

    return read_metadata(path)


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A column as an array, with NaN for a missing cell."""
    values: np.ndarray = column.to_numpy()
    return values if values.dtype != object else column.cast("double").to_numpy()


def _check_columns(
    path: Path, metadata: FileMetaData, first: Path, expected: pa.Schema, names: Sequence[Hashable]
) -> None:
    schema = metadata.schema.to_arrow_schema()
    if schema.names != expected.names:
        raise DataError(
            f"{path} must have the columns of {first}, {', '.join(expected.names[:8])}; got "
            f"{', '.join(schema.names[:8])}: files of one data set have the same columns in one order"
        )
    for name in map(str, names):
        kind = schema.field(name).type
        if not _is_number(kind):
            raise DataError(
                f"{path} must hold numbers, as its rows stay on the disk; got {kind} in column {name!r}: write the file "
                "without it, or give frames of pandas.read_parquet, which are in memory"
            )
