"""Fashion-MNIST: the folders that are searched for it, its files, and its download."""

from __future__ import annotations

import gzip
import math
import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyro_lfm.data.datasets import Labelled, import_torchvision
from pyro_lfm.errors import DataError

VARIABLE = "PYRO_LFM_DATA"  # the environment variable that names the folder of data sets
PACKAGE = "dataset-fashion-mnist"  # Debian's
FILES = [f"{p}-{kind}-ubyte.gz" for p in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
# The folders of Debian's package and of torchvision within a folder of data sets.
LAYOUTS = ("fashion-mnist", "FashionMNIST/raw")


def data_folders() -> list[Path]:
    """The folders that are searched for data sets. Downloads go into the last.

    They are the folder in the environment variable PYRO_LFM_DATA or, without it, /usr/share/datasets, where Debian's
    packages put theirs, and ~/.cache/pyro_lfm.
    """
    if folder := os.environ.get(VARIABLE):
        return [Path(folder)]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return [Path("/usr/share/datasets"), cache / "pyro_lfm"]


def fashion_mnist(folder: str | Path | None = None, train: bool = True, download: bool = True) -> Labelled:
    """Fashion-MNIST (Xiao et al., 2017): 60000 (``train``) or 10000 pictures of clothes, 28 × 28, with labels 0 to 9.

    Read from four .gz files in IDX format.

    Args:
        folder: the folder of the files. By default they are searched for in the folder that the environment variable
            PYRO_LFM_DATA names or, without it, in /usr/share/datasets, where Debian's package dataset-fashion-mnist
            puts them, and in ~/.cache/pyro_lfm.
        download: whether to download files that are not on the machine, once, by apt-get from Debian or by torchvision.

    Raises:
        DataError: a file is missing or broken, or could not be downloaded.

    >>> fashion_mnist("no/such/folder")
    Traceback (most recent call last):
    pyro_lfm.errors.DataError: no/such/folder/train-images-idx3-ubyte.gz is missing: name the folder that has it
    """
    part = Path(folder or _folder(download)) / ("train" if train else "t10k")
    images = _read_idx(part.with_name(part.name + "-images-idx3-ubyte.gz"), 3)
    labels = _read_idx(part.with_name(part.name + "-labels-idx1-ubyte.gz"), 1)
    if len(images) != len(labels):
        raise DataError(
            f"{part.parent} must have a label per image; got {len(images)} images and {len(labels)} labels: "
            "the files are not of one set"
        )
    return Labelled(images.flatten(1) / 255, labels.long(), (1, *images.shape[1:]), "fashion_mnist")


def _folder(download: bool) -> Path:
    """The folder on this machine that holds the files, downloaded if they are missing."""
    searched = data_folders()
    places = [folder / layout for folder in searched for layout in LAYOUTS]
    failures = []
    for fetch in (None, _from_debian, _from_torchvision) if download else (None,):
        if fetch is not None and (why := _failure(fetch, searched[-1])):
            failures.append(why)
        for place in places:
            if all((place / name).is_file() for name in FILES):
                return place
    tried = f", and could not be downloaded ({', '.join(failures)})" if failures else ""
    raise DataError(
        f"Fashion-MNIST is not in {' or '.join(map(str, searched))}{tried}: install Debian's package {PACKAGE}, or put its "
        f"four .gz files into {searched[-1] / LAYOUTS[0]}"
    )


def _failure(fetch: Callable[[Path], None], folder: Path) -> str:
    """Downloads, and returns the reason why it failed; an empty string if it did not."""
    try:
        fetch(folder)
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit status {error.returncode}"]
        return f"apt-get: {lines[-1]}"
    except (RuntimeError, OSError) as error:
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return ""


def _from_debian(folder: Path) -> None:
    """Unpacks Debian's package without installing it, which needs no rights."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise OSError("no apt-get here")
    with tempfile.TemporaryDirectory() as work:
        for command in (["apt-get", "download", PACKAGE], ["dpkg-deb", "-x", f"{PACKAGE}.deb", "unpacked"]):
            subprocess.run(command, cwd=work, check=True, capture_output=True, text=True)
            for package in Path(work).glob(f"{PACKAGE}_*.deb"):
                package.rename(Path(work) / f"{PACKAGE}.deb")
        files = Path(work) / "unpacked/usr/share/datasets" / LAYOUTS[0]
        shutil.copytree(files, folder / LAYOUTS[0], dirs_exist_ok=True)


def _from_torchvision(folder: Path) -> None:
    import_torchvision().datasets.FashionMNIST(folder, download=True)


def _read_idx(path: Path, dims: int) -> Tensor:
    """The bytes of an IDX file: a magic number 0, 0, 8 (unsigned bytes), dims; the sizes; then the entries."""
    if not path.is_file():
        raise DataError(f"{path} is missing: name the folder that has it")
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} must be a whole gzip file; it is cut short or broken: fetch it again"
        ) from error
    magic = bytes((0, 0, 8, dims))
    if raw[:4] != magic or len(raw) < 4 + 4 * dims:
        raise DataError(
            f"{path} must start with the IDX magic number {magic.hex()} and {dims} sizes; got {raw[:4].hex()} and "
            f"{len(raw)} bytes in all: it is another file, fetch it again"
        )
    shape = np.frombuffer(raw, ">i4", dims, offset=4).tolist()
    entries = np.frombuffer(raw, np.uint8, offset=4 + 4 * dims)
    if len(entries) != math.prod(shape):
        raise DataError(
            f"{path} must hold {math.prod(shape)} entries, {shape}; got {len(entries)}: fetch it again"
        )
    return torch.from_numpy(entries.reshape(shape).copy())
