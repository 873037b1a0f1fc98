"""``ParquetTables``: the rows of a parquet file, or a folder of them, for ``lfm.data.shuffle``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyro_lfm.data.files.opening import parquet_files_in
from pyro_lfm.data.files.required_package import needed
from pyro_lfm.data.shuffled_files.row_file import PIECE_BYTES, RowFile
from pyro_lfm.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

# The bytes of a row group that is written: many of them fit into the buffer of a training.
_GROUP_BYTES = 2**21


class ParquetTables(RowFile["pa.Table"]):
    """Columns of any type. The row groups of the new file take about 2 MiB each in memory."""

    def __init__(self, path: Path):
        needed("pyarrow", path)
        from pyarrow.parquet import ParquetFile

        self.paths = parquet_files_in(path) if path.is_dir() else [path]
        self._bytes = self.rows = 0
        for each in self.paths:
            with ParquetFile(each) as file:
                metadata, schema = file.metadata, file.schema_arrow
                if each == self.paths[0]:
                    self.schema = schema
                    compressed = (
                        metadata.row_group(0).column(0).compression if metadata.num_row_groups else "SNAPPY"
                    )
            if not schema.equals(self.schema):
                raise DataError(
                    f"{each} must have the columns of {self.paths[0]}, of the same types, to be shuffled"
                )
            self._bytes += sum(metadata.row_group(k).total_byte_size for k in range(metadata.num_row_groups))
            self.rows += metadata.num_rows
        self.compression = "NONE" if compressed == "UNCOMPRESSED" else compressed

    @property
    def size(self) -> int:
        return self._bytes

    @property
    def _per_row(self) -> float:
        return max(1.0, self._bytes / max(1, self.rows))

    def pieces(self) -> Iterator[pa.Table]:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile

        for path in self.paths:
            with ParquetFile(path, memory_map=True, pre_buffer=False) as file:
                size = max(1, int(PIECE_BYTES / self._per_row))
                for batch in file.iter_batches(size, use_threads=False):
                    yield pa.Table.from_batches([batch], self.schema)

    def rows_of(self, piece: pa.Table) -> int:
        return int(piece.num_rows)

    def take(self, piece: pa.Table, index: np.ndarray) -> pa.Table:
        return piece.take(index)

    def join(self, pieces: Sequence[pa.Table]) -> pa.Table:
        import pyarrow as pa

        return pa.concat_tables(pieces).combine_chunks()

    def write(self, path: Path, pieces: Iterator[pa.Table]) -> None:
        from pyarrow.parquet import ParquetWriter

        size = max(1, int(_GROUP_BYTES / self._per_row))
        with ParquetWriter(path, self.schema, compression=self.compression) as writer:
            for piece in pieces:
                writer.write_table(piece, row_group_size=size)
