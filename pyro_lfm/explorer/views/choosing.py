"""``views_of``: which view each observed variable of a fit has, by its declaration, its columns and its values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import torch

from pyro_lfm.data.schema import Columns
from pyro_lfm.errors import DeclarationError
from pyro_lfm.evaluate.decoding.decoded_columns import ObservedColumn, observed_columns
from pyro_lfm.evaluate.decoding.decoded_rows import RowDecoder
from pyro_lfm.explorer.user_rows import UserRows
from pyro_lfm.explorer.views.columns_view import ColumnsView
from pyro_lfm.explorer.views.picture_view import PictureView, picture_shape, pixel_range
from pyro_lfm.tables.table_columns import TableColumns

View: TypeAlias = PictureView | ColumnsView
# The shape of the pictures of a variable: (H, W) or (C, H, W); by name where there are several.
Shape: TypeAlias = tuple[int, ...] | Mapping[str, tuple[int, ...]] | None
# Rows whose pixels show what is paper; the share of a picture that is paper, and how near its value is to the end.
_SEEN, _PAPER, _NEAR = 256, 0.3, 0.1


def views_of(decoder: RowDecoder, rows: UserRows, shape: Shape) -> list[View]:
    """The views of the observed variables, those of a mixed table in one.

    Args:
        shape: of the pictures of a variable, where the user says it.

    Raises:
        DeclarationError: a shape that does not fit, or of a variable that there is not.
    """
    fit, table = decoder.fit, decoder.fit.table
    given = _by_name(decoder, rows, shape)
    columns: dict[str, list[ObservedColumn]] = {}
    mixed = table if isinstance(table, TableColumns) else None
    for column in observed_columns(decoder):
        together = mixed is not None and column.variable in mixed.groups
        columns.setdefault("table" if together else column.variable, []).append(column)
    views: list[View] = []
    for name, members in columns.items():
        if name not in fit.model.observed:
            views.append(_columns_view(name, members, rows, mixed))
            continue
        own = given.get(name)
        named = own is None and fit.schema.get(name, Columns()).names is not None
        picture = picture_shape(tuple(fit.model.observed[name].shape), named, own)
        view = None if picture is None else _picture_view(name, *picture, rows)
        views.append(view or _columns_view(name, members, rows))
    return views


def _by_name(decoder: RowDecoder, rows: UserRows, shape: Shape) -> dict[str, tuple[int, ...]]:
    if isinstance(shape, Mapping):
        unknown = [name for name in shape if name not in decoder.observed]
        if unknown:
            raise DeclarationError(
                f"shape must name observed variables, {', '.join(decoder.observed)}; got {', '.join(unknown)}"
            )
        return {name: tuple(each) for name, each in shape.items()}
    shape = rows.shape if shape is None else shape
    if shape is None:
        return {}
    sizes = {name: decoder.model.observed[name].shape.numel() for name in decoder.observed}
    fitting = [name for name, size in sizes.items() if size == int(np.prod(shape))]
    return {(fitting or decoder.observed)[0]: tuple(shape)}


def _columns_view(
    name: str, columns: list[ObservedColumn], rows: UserRows, table: TableColumns | None = None
) -> ColumnsView:
    low, high = _ends(rows, {column.variable for column in columns})
    ends = [[float(end[c.variable][c.entry]) * c.scale + c.loc for c in columns] for end in (low, high)]
    return ColumnsView(name, columns, np.array(ends[0]), np.array(ends[1]), table)


def _picture_view(name: str, shape: tuple[int, int, int], last: bool, rows: UserRows) -> PictureView:
    low, high = _ends(rows, {name})
    dark, bright = pixel_range(float(np.nanmin(low[name])), float(np.nanmax(high[name])))
    index = torch.arange(min(len(rows), _SEEN)) * (len(rows) // min(len(rows), _SEEN))
    pixels = rows.table.take(index)[name].nan_to_num(dark)
    paper = (pixels <= dark + _NEAR * (bright - dark)).float().mean()
    return PictureView(name, shape, last, dark, bright, shape[0] == 1 and float(paper) > _PAPER)


def _ends(rows: UserRows, names: set[str]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The least and the largest value of each entry, (D,) by name; NaN where none is observed."""
    low: dict[str, np.ndarray] = {}
    high: dict[str, np.ndarray] = {}
    for block in rows.table.blocks():
        for name, value in rows.table.take(block, torch.float64).items():
            if name in names:
                flat = value.reshape(len(block), -1).numpy()
                known = (
                    np.where(np.isnan(flat), np.inf, flat).min(0),
                    np.where(np.isnan(flat), -np.inf, flat).max(0),
                )
                low[name] = np.minimum(low.get(name, np.inf), known[0])
                high[name] = np.maximum(high.get(name, -np.inf), known[1])
    for end in (low, high):
        for name, values in end.items():
            end[name] = np.where(np.isfinite(values), values, np.nan)
    return low, high
