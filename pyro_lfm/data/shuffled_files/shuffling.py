"""``lfm.data.shuffle``: a data file in random order, by two passes with bounded memory."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pyro_lfm.data.files.data_formats import readable
from pyro_lfm.data.files.opening import ending_of_path
from pyro_lfm.data.shuffled_files.array_file import ArrayFile
from pyro_lfm.data.shuffled_files.cell_file import CellFile
from pyro_lfm.data.shuffled_files.csv_lines import CsvLines
from pyro_lfm.data.shuffled_files.parquet_tables import ParquetTables
from pyro_lfm.data.shuffled_files.row_file import RowFile
from pyro_lfm.data.shuffled_files.zarr_arrays import ZarrArrays
from pyro_lfm.errors import DataError
from pyro_lfm.shapes import whole
from pyro_lfm.storage.whole_files import whole_file

# Bytes of rows that are shuffled in memory at a time.
_BUCKET_BYTES = 2**27

FORMATS: Mapping[str, Callable[[Path], RowFile[Any]]] = {
    ".npy": ArrayFile,
    ".csv": CsvLines,
    ".tsv": CsvLines,
    ".txt": CsvLines,
    ".csv.gz": CsvLines,
    ".tsv.gz": CsvLines,
    ".parquet": ParquetTables,
    ".zarr": ZarrArrays,
    ".h5ad": CellFile,
}


def shuffle(path: str | os.PathLike[str], out: str | os.PathLike[str], *, seed: int = 0) -> Path:
    """Writes the rows of a data file in random order, every order being equally likely.

    The rows are dealt to buckets at random, and each bucket is shuffled in memory. So some hundred MB of memory are enough
    for a file of any size. While ``out`` is written, as much disk is needed again beside it. Columns, types, names and
    compression are those of the file. Parquet and zarr are written in row groups and chunks that suit training.

    Args:
        path: of a .npy, .csv, .tsv, .txt, .parquet, .zarr or .h5ad file, or a folder of parquet files.
        out: the new file, of the same format. It is there when all of it is written. A file there before is replaced.
        seed: of the order.

    Returns:
        The path of the new file.

    Raises:
        DataError: a file that cannot be read or written, or another format. Nothing is written.

    Source: Rao (1961), Generation of random permutations of given number of elements using random sampling numbers.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/sorted.npy", np.arange(6))
    ...     print(np.load(shuffle(f"{folder}/sorted.npy", f"{folder}/mixed.npy", seed=1)))
    [4 0 2 1 5 3]
    """
    path, out = Path(path), Path(out)
    rng = np.random.default_rng(whole("seed", seed, least=0))
    ending = ending_of_path(path)
    if ending is None or ending not in FORMATS:
        raise DataError(
            f"{path} must end in {', '.join(FORMATS)}, or be a folder of .parquet files, to be shuffled"
        )
    if not out.name.lower().endswith(ending):
        raise DataError(f"out must end in {ending}, as {path.name} does; got {out}: the format stays")
    if not out.parent.is_dir():
        raise DataError(f"out is {out}, and there is no folder {out.parent}: make it, or name another one")
    with readable(path):
        file = FORMATS[ending](path)
    with _beside(out) as beside, tempfile.TemporaryDirectory(prefix=".shuffle-", dir=out.parent) as buckets:
        try:
            with readable(path):
                count = _scatter(file, Path(buckets), rng)
            file.write(beside, _gathered(file, Path(buckets), count, rng))
        except OSError as error:
            raise DataError(
                f"{out} cannot be written: {error.strerror or error}; nothing was changed"
            ) from None
    return out


def _scatter(file: RowFile[Any], folder: Path, rng: np.random.Generator) -> int:
    """Deals the rows to buckets, each row to any of them with equal probability; the number of buckets."""
    count = max(1, -(-file.size // _BUCKET_BYTES))
    for piece in file.pieces():
        bucket = rng.integers(count, size=file.rows_of(piece))
        order = np.argsort(bucket, kind="stable")
        ends = np.searchsorted(bucket[order], np.arange(count + 1))
        for number in range(count):
            if ends[number] < ends[number + 1]:
                _append(folder / str(number), file.take(piece, order[ends[number] : ends[number + 1]]))
    return count


def _append(path: Path, rows: Any) -> None:
    """Writes rows behind those of a bucket, whose file is open for this moment alone: there may be thousands."""
    try:
        with path.open("ab") as bucket:
            pickle.dump(rows, bucket, protocol=5)
    except OSError as error:
        raise DataError(
            f"{path.parent.parent} has no room for the rows in buckets: {error.strerror or error}; nothing was changed"
        ) from None


def _gathered(file: RowFile[Any], folder: Path, count: int, rng: np.random.Generator) -> Iterator[Any]:
    """The rows of each bucket in random order."""
    for number in range(count):
        if not (path := folder / str(number)).exists():
            continue
        pieces = []
        with path.open("rb") as bytes_of_bucket:
            while bytes_of_bucket.peek(1):
                pieces.append(pickle.load(bytes_of_bucket))  # written by this call, in a folder of its own
        path.unlink()
        rows = file.join(pieces)
        pieces.clear()
        yield file.take(rows, rng.permutation(file.rows_of(rows)))


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A context that gives a name beside ``out``, which becomes ``out`` when it ends well; a folder for .zarr."""
    if not out.name.lower().endswith(".zarr"):
        with whole_file(out) as beside:
            yield beside
        return
    beside = out.with_name(f".{os.getpid()}.{out.name}")
    try:
        yield beside
        if out.exists():
            shutil.rmtree(out)
        os.replace(beside, out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
