"""The formats of data files, one function each, that ``lfm.data.open`` chooses among by the ending of a name."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.lib import format as npy

from pyro_lfm.data.csv_text import CsvFile
from pyro_lfm.data.files.parquet_rows import ParquetRows, is_large
from pyro_lfm.data.files.required_package import needed
from pyro_lfm.errors import DataError, first_line

if TYPE_CHECKING:
    import pandas as pd
    import zarr
    from anndata import AnnData

    from pyro_lfm.data.files.picture_folder import PictureFolder

    # What a file is opened as; fit takes each of them.
    Opened: TypeAlias = (
        np.ndarray
        | pd.DataFrame
        | AnnData
        | zarr.Array
        | PictureFolder
        | ParquetRows
        | Mapping[str, np.ndarray | zarr.Array]
    )


# The bytes of a parquet file of numbers beyond which it is no DataFrame: its rows stay on the disk.
LARGEST_FRAME = 2**28


def _array(path: Path) -> Opened:
    """.npy: a memory map, whose rows stay on the disk."""
    return npy.open_memmap(path, mode="r")  # objects, which are pickles, have no memory map


def _arrays(path: Path) -> Opened:
    """.npz: arrays by name, mapped where they are not compressed; the array itself if there is one."""
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            with archive.open(entry) as file:
                arrays[name] = _mapped(path, entry) if entry.compress_type == zipfile.ZIP_STORED else None
                if arrays[name] is None:
                    arrays[name] = npy.read_array(file, allow_pickle=False)
    if not arrays:
        raise DataError(f"{path} holds no arrays: numpy.savez(path, x=...) writes some")
    return next(iter(arrays.values())) if len(arrays) == 1 else arrays


def _mapped(path: Path, entry: zipfile.ZipInfo) -> np.ndarray | None:
    """An array that stands uncompressed in an archive as a memory map; None where it cannot be mapped."""
    with path.open("rb") as file:
        file.seek(entry.header_offset + 26)
        lengths = np.frombuffer(file.read(4), "<u2")
        file.seek(entry.header_offset + 30 + int(lengths.sum()))
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            return None
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if dtype.hasobject or 0 in shape:
            return None
        return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran else "C")


def _table(path: Path) -> Opened:
    """Text with delimiters, recognised by ``CsvFile``."""
    return CsvFile.read(path).frame()


def _parquet(path: Path) -> Opened:
    """A DataFrame, or rows that stay on the disk where a frame would be large."""
    pandas = needed("pandas", path)
    needed("pyarrow", path)
    if is_large(path, LARGEST_FRAME):
        return ParquetRows([path])
    frame: pd.DataFrame = pandas.read_parquet(path)
    return frame


def parquet_files(paths: Sequence[Path]) -> Opened:
    """Parquet files whose rows follow each other, such as those of a folder."""
    needed("pyarrow", paths[0])
    return ParquetRows(paths)


def _h5ad(path: Path) -> Opened:
    """AnnData: X stays on the disk; obs and var are read."""
    adata: AnnData = needed("anndata", path).read_h5ad(path, backed="r")
    return adata


def _zarr(path: Path) -> Opened:
    """An array, arrays by name, or AnnData; rows stay on the disk."""
    store = needed("zarr", path).open(path, mode="r")
    if not hasattr(store, "group_keys"):
        array: zarr.Array = store
        return array
    if store.attrs.get("encoding-type") == "anndata":
        return _anndata_of_zarr(path, store)
    arrays = dict(store.arrays())
    if not arrays:
        raise DataError(
            f"{path} holds no arrays at its top: open one of its groups, {', '.join(store.group_keys())}"
        )
    return next(iter(arrays.values())) if len(arrays) == 1 else arrays


def _anndata_of_zarr(path: Path, store: zarr.Group) -> AnnData:
    """AnnData whose X stays on the disk; all else is read."""
    anndata = needed("anndata", path)
    parts = ("obs", "var", "uns", "obsm", "varm", "obsp", "varp", "layers")
    read = {name: anndata.io.read_elem(store[name]) for name in parts if name in store}
    if "X" in store:
        x = store["X"]
        read["X"] = anndata.io.sparse_dataset(x) if hasattr(x, "group_keys") else x
    adata: AnnData = anndata.AnnData(**read)
    return adata


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """A context in which the errors of a format's library become a DataError that names the file."""
    try:
        yield
    except (DataError, ImportError):
        raise
    except MemoryError:
        raise DataError(
            f"{path} does not fit into memory: give fewer rows, or write it as .npy or .zarr"
        ) from None
    except Exception as error:  # each library has its own errors for what is no file of its format
        why = getattr(error, "strerror", None) or first_line(error).removeprefix(str(path)).strip(": ")
        raise DataError(f"{path} cannot be read as {''.join(path.suffixes[-1:])}: {why}") from None


FORMATS: Mapping[str, Callable[[Path], Opened]] = {
    ".npy": _array,
    ".npz": _arrays,
    ".csv": _table,
    ".tsv": _table,
    ".txt": _table,
    ".csv.gz": _table,
    ".tsv.gz": _table,
    ".parquet": _parquet,
    ".h5ad": _h5ad,
    ".zarr": _zarr,
}
