"""``PictureFolder``: the pictures of a folder as rows, read when they are fetched, and a table of their attributes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from pyro_lfm.data.csv_text import CsvFile
from pyro_lfm.data.files.required_package import needed
from pyro_lfm.errors import DataError
from pyro_lfm.shapes import whole

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

PICTURES = (".png", ".jpg", ".jpeg")
# Modes of PIL with one channel. The last ones have 16 bits, which PIL reads as whole numbers.
_GREY = ("1", "L", "LA", "I", "I;16", "I;16B")
_DEEP = ("I", "I;16", "I;16B")


@dataclass(frozen=True, eq=False, repr=False)
class PictureFolder:
    """N pictures of one shape, with values in [0, 1]. They stay in their files until they are fetched.

    Attributes:
        folder: where they are, in subfolders too.
        names: their paths within the folder, N, sorted.
        shape: (C, H, W): C is 1 for grey pictures and 3 for colour.
        table: the file of their attributes, if there is one.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as place:
    ...     for k in range(3):
    ...         Image.new("L", (8, 6), 51 * k).save(f"{place}/{k}.png")
    ...     pictures = PictureFolder.open(place, size=4)
    ...     print(pictures, float(pictures[[2]].mean()))
    PictureFolder(3 pictures of shape (1, 4, 4)) 0.4000000059604645
    """

    folder: Path
    names: tuple[str, ...]
    shape: tuple[int, int, int]
    table: Path | None = None

    @staticmethod
    def open(
        folder: str | os.PathLike[str],
        *,
        size: int | tuple[int, int] | None = None,
        colour: bool | None = None,
        attributes: str | os.PathLike[str] | None = None,
    ) -> PictureFolder:
        """The PNG and JPEG files of a folder and its subfolders.

        Args:
            folder: where they are.
            size: (H, W) to which they are resized, or the side of a square. By default it is the size that all have.
            colour: whether rows are red, green and blue. By default they are where a picture has colours.
            attributes: a CSV file, in the folder or elsewhere, one of whose columns has the names of the files. By default
                the only CSV file in the folder, if there is one.

        Raises:
            DataError: there are no pictures, one cannot be read, or they have several sizes and none is given.
        """
        folder = Path(folder)
        names = tuple(
            sorted(
                path.relative_to(folder).as_posix()
                for path in folder.rglob("*")
                if path.suffix.lower() in PICTURES and not path.name.startswith(".")
            )
        )
        if not names:
            raise DataError(f"{folder} has no pictures: their names must end in {', '.join(PICTURES)}")
        if colour is None or size is None:
            sizes, grey = _sizes_and_modes(folder, names)
            colour = not grey if colour is None else colour
            size = _one_size(folder, sizes) if size is None else size
        if not isinstance(size, int) and (isinstance(size, str) or np.shape(size) != (2,)):
            raise DataError(f"size must be one number of pixels, or (height, width); got {size!r}")
        height, width = (size, size) if isinstance(size, int) else size
        shape = (3 if colour else 1, whole("size", height, least=1), whole("size", width, least=1))
        return PictureFolder(folder, names, shape, _table(folder, attributes))

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        beside = f", attributes in {self.table.name}" if self.table else ""
        return f"PictureFolder({len(self)} pictures of shape {self.shape}{beside})"

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """The pictures at an index as float32, (B, C, H, W), or (C, H, W) of one number."""
        chosen = np.arange(len(self))[index]
        if chosen.ndim == 0:
            return self._picture(self.names[int(chosen)])
        rows = np.empty((len(chosen), *self.shape), np.float32)
        for row, place in zip(rows, chosen, strict=True):
            row[...] = self._picture(self.names[int(place)])
        return rows

    @property
    def x(self) -> torch.Tensor:
        """All pictures, (N, C, H, W), in memory."""
        return torch.from_numpy(self[:])

    @cached_property
    def attributes(self) -> pd.DataFrame:
        """The attributes of the pictures, N rows in their order. Those that the table lacks are missing.

        The index holds the names of the files. Without a table there is one attribute, the subfolder.

        Raises:
            DataError: no column of the table has the names of the files.
            ImportError: without pandas, which the extra ``pyro_lfm[data]`` installs.
        """
        needed("pandas", self.table or self.folder)
        import pandas as pd

        if self.table is None:
            return pd.DataFrame(
                {"folder": [str(Path(name).parent) for name in self.names]}, index=list(self.names)
            )
        frame = CsvFile.read(self.table).frame()
        for spelled in (self.names, [Path(n).name for n in self.names], [Path(n).stem for n in self.names]):
            for column in frame.columns:
                keys = frame[column].astype(str)
                if keys.is_unique and keys.isin(spelled).any():
                    rest = frame.drop(columns=column).set_axis(keys).reindex(spelled)
                    return rest.set_axis(list(self.names))
        columns = ", ".join(
            f"{name}, which begins with {frame[name].iloc[0]!r}" for name in frame.columns[:8]
        )
        raise DataError(
            f"{self.table} must have a column with the names of the pictures, such as {self.names[0]}; its columns are "
            f"{columns}"
        )

    def _picture(self, name: str) -> np.ndarray:
        """(C, H, W)."""
        from PIL import Image, ImageOps

        channels, height, width = self.shape
        with _opened(self.folder / name) as image:
            upright = ImageOps.exif_transpose(image) if image.format == "JPEG" else image
            if upright.mode in _DEEP:
                upright = Image.fromarray(np.asarray(upright, dtype=np.float32) / np.float32(65535))
            else:
                upright = upright.convert("L" if channels == 1 else "RGB")
            if upright.size != (width, height):
                upright = upright.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(upright, dtype=np.float32) / np.float32(1 if upright.mode == "F" else 255)
        return np.broadcast_to(pixels, self.shape) if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


@contextmanager
def _opened(path: Path) -> Iterator[Image]:
    """A picture that is open; what is wrong with it becomes a DataError."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        why = getattr(error, "strerror", None) or "it is no picture, or is cut off"
        raise DataError(f"{path} cannot be read: {why}. Remove it, or copy it anew") from None


def _sizes_and_modes(folder: Path, names: Sequence[str]) -> tuple[dict[tuple[int, int], str], bool]:
    """A name of each size (H, W), by the heads of the files, and whether all are grey."""
    sizes: dict[tuple[int, int], str] = {}
    grey = True
    for name in names:
        with _opened(folder / name) as image:
            width, height = image.size
            # The orientation of a camera that was held upright. In PNG it would stand behind the picture.
            turned = image.format == "JPEG" and image.getexif().get(0x0112, 1) >= 5
            sizes.setdefault((width, height) if turned else (height, width), name)
            grey = grey and image.mode in _GREY
    return sizes, grey


def _one_size(folder: Path, sizes: dict[tuple[int, int], str]) -> tuple[int, int]:
    if len(sizes) > 1:
        (first, a), (second, b) = list(sizes.items())[:2]
        raise DataError(
            f"the pictures of {folder} must have one size; {a} has {first} and {b} {second} (height, width): "
            f"lfm.data.open({str(folder)!r}, size={first}) resizes them; the command line needs files of one size"
        )
    return next(iter(sizes))


def _table(folder: Path, attributes: str | os.PathLike[str] | None) -> Path | None:
    if attributes is None:
        tables = sorted(path for path in folder.iterdir() if path.name.lower().endswith((".csv", ".csv.gz")))
        return tables[0] if len(tables) == 1 else None
    within = folder / attributes
    path = within if within.exists() else Path(attributes)
    if not path.exists():
        raise DataError(f"attributes must be a CSV file in {folder} or elsewhere; there is no {attributes}")
    return path
