"""``UserRows``: the rows that are explored, as the model reads them and as the user has them, and what stands beside."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from pyro_lfm.data import CsvFile, Labelled, PictureFolder, Scenes
from pyro_lfm.data.annotated_rows import is_anndata
from pyro_lfm.data.files.opening import opened
from pyro_lfm.data.frames import frame_of
from pyro_lfm.data.readers import NamedRows, Table
from pyro_lfm.data_files.data_file import TEXT, DataFile
from pyro_lfm.data_files.named_rows import columns_of, rows_of_fit
from pyro_lfm.errors import DataError
from pyro_lfm.explorer.data_columns import NamedCodes
from pyro_lfm.inference.data_boundary import Data, table_for
from pyro_lfm.inference.fitted import Fit

if TYPE_CHECKING:
    import pandas as pd

# What the explorer takes: rows as for the methods of a fit, a drawn or labelled data set, a path; None for the fitted rows.
Explored = Data | Labelled | Scenes | PictureFolder | str | os.PathLike[str] | None


@dataclass(frozen=True, eq=False)
class UserRows:
    """N rows of a fit.

    Attributes:
        data: as the methods of the fit take them; None stands for the rows that were fitted.
        table: the same, read and checked, fetched by index.
        title: a name for them.
        frame: the user's table, if they came as one.
        text: the file, if it is a CSV file.
        beside: {name: N values} that the model does not read: other columns, labels of a data set.
        shape: of one picture, where the data set knows it.
        index: the names of the rows of an AnnData.
    """

    data: Data | None
    table: Table
    title: str
    frame: pd.DataFrame | None = None
    text: CsvFile | None = None
    beside: Mapping[str, object] = field(default_factory=dict)
    shape: tuple[int, ...] | None = None
    index: tuple[Hashable, ...] | None = None

    _kept: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.table)

    def entries(self, variable: str) -> np.ndarray:
        """All rows of a variable, (N, D) in float32, NaN where missing; they are kept."""
        if variable not in self._kept:
            blocks = [
                self.table.take(block)[variable].reshape(len(block), -1) for block in self.table.blocks()
            ]
            self._kept[variable] = torch.cat(blocks).numpy()
        return self._kept[variable]


def user_rows(fit: Fit, data: Explored) -> UserRows:
    """The rows to explore.

    Raises:
        DataError, ShapeError: rows that the model does not read, or none with a fit that was loaded.
    """
    if data is None:
        return _fitted(fit)
    if isinstance(data, str | os.PathLike):
        path = Path(data)
        title = path.name.split(".")[0] or path.name
        if path.name.lower().endswith(TEXT) and path.is_file():
            text = CsvFile.read(path)
            return _of_frame(fit, text.frame(), path, title, text)
        return _of_opened(fit, opened(path), path, title)
    if isinstance(data, Labelled):
        return _read(fit, _pictures(fit, data.x), data.name, beside={"label": data.y}, shape=data.shape)
    if isinstance(data, Scenes):
        beside = {name: _named(values, data.labels.get(name)) for name, values in data.factors.items()}
        return _read(fit, _pictures(fit, data.x), data.name, beside=beside, shape=data.shape)
    return _of_opened(fit, data, Path("data"), "data")


def _of_opened(fit: Fit, data: Any, path: Path, title: str) -> UserRows:
    if isinstance(data, PictureFolder):
        known = data.attributes
        beside: dict[str, object] = {str(name): known[name] for name in known.columns}
        return _read(fit, data, title, beside=beside, shape=data.shape)
    if is_anndata(data):
        obs = {str(name): data.obs[name] for name in data.obs.columns}
        return replace(_read(fit, data, title, beside=obs), index=tuple(data.obs_names))
    frame = frame_of(data)
    if frame is not None:
        return _of_frame(fit, frame, path, title, None)
    if isinstance(data, NamedRows) and data.frame is not None:
        return _read(fit, data, title, frame=data.frame)
    if isinstance(data, Mapping):
        known_names = {*fit.model.observed, *fit.model.may_be_known}
        beside = {str(name): values for name, values in data.items() if name not in known_names}
        return _read(
            fit, {name: each for name, each in data.items() if name in known_names}, title, beside=beside
        )
    return _read(fit, data, title)


def _of_frame(fit: Fit, frame: pd.DataFrame, path: Path, title: str, text: CsvFile | None) -> UserRows:
    rows = rows_of_fit(fit, DataFile(path, frame, text))
    modelled: set[Hashable] = {*(columns_of(fit) or ()), *fit.model.observed}
    if columns_of(fit) is None and len(fit.model.observed) == 1:
        modelled = {*frame.columns}  # columns by position
    beside = {str(name): frame[name] for name in frame.columns if name not in modelled}
    return _read(fit, rows, title, frame, text, beside)


def _read(
    fit: Fit,
    data: Any,
    title: str,
    frame: pd.DataFrame | None = None,
    text: CsvFile | None = None,
    beside: Mapping[str, object] | None = None,
    shape: tuple[int, ...] | None = None,
) -> UserRows:
    if fit.table is not None and fit.table.takes(data):
        data = fit.table.encode(data)
    table = table_for(fit.model, cast("Data", data), fit.guide.needs, fit.schema, may_be_empty=True)
    if _are_the_fitted(fit, table):
        data = None
    return UserRows(data, table, title, frame, text, beside or {}, shape)


def _fitted(fit: Fit) -> UserRows:
    """The rows that were fitted."""
    if not fit.has_rows:
        raise DataError(
            "data must be given: a fit that was loaded holds no rows; lfm.explore(fit, data), or --data FILE"
        )
    batch = fit.rows_of()
    rows = {name: batch.with_gaps(name) for name in batch.names}
    table = table_for(fit.model, rows, fit.guide.needs, fit.schema, may_be_empty=True)
    return UserRows(None, table, "fitted rows")


def _pictures(fit: Fit, rows: Tensor) -> Tensor:
    """Flat rows (N, D) in the shape in which the model declares them, (N, *event), if it has so many entries."""
    shapes = [variable.shape for n, variable in fit.model.observed.items() if n not in fit.model.covariates]
    fits = len(shapes) == 1 and shapes[0].numel() == rows[0].numel()
    return rows.reshape(len(rows), *shapes[0]) if fits else rows


def _are_the_fitted(fit: Fit, table: Table) -> bool:
    """Whether rows are those that were fitted, whose own parameters are then known. Not asked where rows have none."""
    if not fit.has_rows or not fit.guide.tables:
        return False
    batch = fit.rows_of()
    if len(batch) != len(table):
        return False
    rows = table.take(torch.arange(len(table)), fit.model.dtype)
    return all(torch.equal(rows[n].nan_to_num(), batch.with_gaps(n).cpu().nan_to_num()) for n in rows)


def _named(codes: Any, names: tuple[str, ...] | None) -> object:
    """Codes with their names, where these are known."""
    return codes if names is None else NamedCodes(np.asarray(codes), names)
