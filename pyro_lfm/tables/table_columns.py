"""The columns of a mixed table: frames to the rows of factors, and back. A fit keeps them, with no rows."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from pyro_lfm.data.files.opening import opened
from pyro_lfm.data.frames import frame_of
from pyro_lfm.data.readers import NamedRows
from pyro_lfm.errors import DataError
from pyro_lfm.tables.columns import Column

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


@dataclass(frozen=True, eq=False)
class TableColumns:
    """The columns of the frame that ``heterogeneous`` read, and the conversion of rows.

    Attributes:
        columns: the columns with their kinds and the reasons, in the order of the frame.
        groups: {name of a factor: names of its columns}, in the order of its entries.
        shapes: {name of a factor: the shape of its event}, (D,), or () for labels.
    """

    columns: tuple[Column, ...]
    groups: Mapping[str, tuple[Hashable, ...]]
    shapes: Mapping[str, tuple[int, ...]]

    def with_frame(self, rows: Mapping[str, torch.Tensor], frame: pd.DataFrame) -> NamedRows:
        """Rows by factor together with the frame that they were made of, which is copied as the user may change it."""
        kept = frame[[column.name for column in self.columns]].copy()
        return NamedRows(rows, kept, self.groups, self)

    def takes(self, data: object) -> bool:
        """Whether it can read such data: a DataFrame of pandas or polars."""
        return frame_of(data) is not None

    def encode(self, frame: pd.DataFrame | pl.DataFrame | str | os.PathLike[str]) -> NamedRows:
        """The rows of a frame with these columns. Other columns are ignored.

        Raises:
            DataError: a column is missing, or has a value without a code or one that its kind cannot have.
        """
        frame = table_of(frame)
        lacking = [str(column.name) for column in self.columns if column.name not in frame.columns]
        if lacking:
            raise DataError(
                f"frame must have the columns of the table; {', '.join(lacking)} are lacking: add unknown columns as nan"
            )
        encoded = {column.name: column.encode(frame[column.name]) for column in self.columns}
        rows = {
            name: rows_of(self.shapes[name], [encoded[n] for n in members])
            for name, members in self.groups.items()
        }
        return self.with_frame(rows, frame)

    def decode(
        self,
        values: Mapping[str, torch.Tensor],
        index: pd.Index | Sequence[Hashable] | None = None,
        like: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Rows by factor as a DataFrame, in the units, labels and dtypes of the frame.

        Args:
            values: {name of a factor: rows}. Columns of a factor without values are left out.
            index: of the new frame; by default 0 to N − 1.
            like: a frame of as many rows, whose cells are kept bit for bit where they are those of the values.
        """
        import pandas as pd

        columns: dict[Hashable, np.ndarray] = {}
        for name, members in self.groups.items():
            if name in values:
                rows = torch.as_tensor(values[name]).detach().cpu().numpy()
                if rows.size != len(rows) * len(members):
                    raise DataError(
                        f"{name} must have shape (N, {len(members)}); got {rows.shape}: decode one draw at a time"
                    )
                columns.update(zip(members, rows.reshape(len(rows), -1).T, strict=True))
        decoded = {c.name: c.decode(columns[c.name].astype(float)) for c in self.columns if c.name in columns}
        frame: pd.DataFrame | None = getattr(values, "frame", None) if like is None else like
        for column in self.columns:
            if frame is not None and column.name in columns and len(frame) == len(columns[column.name]):
                cells = frame[column.name]
                decoded[column.name] = column.restored(decoded[column.name], columns[column.name], cells)
        rows_of_values = pd.DataFrame(decoded)
        return rows_of_values if index is None else rows_of_values.set_index(pd.Index(index))


def table_of(data: object) -> pd.DataFrame:
    """A DataFrame of pandas, of polars, or in a file, as one of pandas.

    Raises:
        DataError: the data are none, are empty, or have a column twice.
    """
    frame = frame_of(opened(data))
    if frame is None:
        raise DataError(
            f"frame must be a pandas DataFrame, one of polars, or a file with one; got a {type(data).__name__}: "
            "pandas.DataFrame(...)"
        )
    if not len(frame) or not len(frame.columns):
        raise DataError(f"frame must have rows and columns; got shape {frame.shape}")
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise DataError(f"frame must have each column once; got {twice!r} twice: rename one of them")
    return frame


def rows_of(shape: tuple[int, ...], columns: list[np.ndarray]) -> torch.Tensor:
    """The rows of a factor with events of a shape, of its encoded columns."""
    exact = torch.as_tensor(np.stack(columns, 1))
    rows = exact.to(torch.get_default_dtype())
    # Counts that the default type would round stay in float64.
    whole = bool((exact == exact.round())[~exact.isnan()].all())
    if whole and not torch.equal(rows.double().nan_to_num(), exact.nan_to_num()):
        rows = exact
    return rows if shape else rows[:, 0]
