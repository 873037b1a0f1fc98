"""The rows of the data that an exported page holds, as many as fit into a number of bytes, and their text as CSV."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pyro_lfm.evaluate.decoding.decoded_columns import column_names
from pyro_lfm.explorer.exported.array_block import ArrayBlock, Reference
from pyro_lfm.explorer.rows_as_csv import rows_as_csv
from pyro_lfm.explorer.session import Session
from pyro_lfm.explorer.views.picture_view import PictureView

# Rows whose compressed size tells that of all.
_SAMPLE = 256
# The most cells of one part of the text.
_CELLS = 2**20
# base64 writes 3 bytes as 4 characters.
_WRITTEN = 4 / 3


@dataclass(frozen=True)
class PageRows:
    """The first rows of the data.

    Attributes:
        count: how many of the rows the page holds.
        variables: {observed variable: values (count, D)}.
        csv: their text, of rows that came as a table or a file; None of arrays, whose entries have the names below.
        names: of the entries of each variable.
    """

    count: int
    variables: dict[str, Reference]
    csv: Reference | None
    names: dict[str, list[str]]

    def document(self) -> dict[str, object]:
        return {"count": self.count, "variables": self.variables, "csv": self.csv, "names": self.names}


def page_rows(session: Session, block: ArrayBlock, room: int) -> PageRows:
    """The rows that a page has room for.

    Args:
        block: takes the rows.
        room: the bytes that they and all that the block holds may take in the page.
    """
    rows, everything = session.rows, len(session.rows)
    sample = np.linspace(0, everything - 1, min(_SAMPLE, everything)).round().astype(int)
    trial = ArrayBlock()
    _add(session, trial, sample)
    each = _WRITTEN * len(trial.compressed()) / len(sample)
    left = max(0.0, room - _WRITTEN * len(block.compressed()))
    count = everything if each * everything <= left else int(left / each)
    variables, csv = _add(session, block, np.arange(count))
    names = {name: column_names(session.fit, name) for name in rows.table.names}
    return PageRows(count, variables, csv, names)


def _add(
    session: Session, block: ArrayBlock, chosen: np.ndarray
) -> tuple[dict[str, Reference], Reference | None]:
    rows = session.rows
    pictures = {view.name: view for view in session.views if isinstance(view, PictureView)}
    taken = rows.table.take(torch.from_numpy(chosen), None)
    variables = {}
    for name, values in taken.items():
        flat = _numbers(values.reshape(len(chosen), values.shape[1:].numel()).numpy())
        picture = pictures.get(name)
        variables[name] = (
            block.add(flat) if picture is None else block.add_pixels(flat, picture.low, picture.high)
        )
    text = _csv(session, chosen)
    return variables, None if text is None else block.add_text(text)


def _csv(session: Session, chosen: np.ndarray) -> str | None:
    """Rows that came as a table or a file, as CSV, part by part, since an answer has a limit of cells; None of arrays."""
    rows = session.rows
    if rows.text is None and rows.frame is None:
        return None
    width = len(rows.text.columns) if rows.text is not None else len(rows.frame.columns)  # type: ignore[union-attr]
    step = max(1, _CELLS // max(1, width))
    header = rows_as_csv(session.fit, rows, chosen[:0])
    parts = [chosen[start : start + step] for start in range(0, len(chosen), step)]
    return header + "".join(rows_as_csv(session.fit, rows, part)[len(header) :] for part in parts)


def _numbers(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Single precision where it holds every number, double where not."""
    single = values.astype(np.float32)
    same = np.array_equal(single.astype(np.float64), values.astype(np.float64), equal_nan=True)
    return single if same else values.astype(np.float64)
