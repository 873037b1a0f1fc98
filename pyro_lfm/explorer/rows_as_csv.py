"""``rows_as_csv``: chosen rows as the user has them: the text of their CSV file, or the cells of their table."""

from __future__ import annotations

import csv
import io
from collections.abc import Hashable, Sequence

import numpy as np
import torch

from pyro_lfm.evaluate.decoding.decoded_columns import column_names
from pyro_lfm.explorer.user_rows import UserRows
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.web.refusal import Refusal

# The most cells of an answer.
_CELLS = 2**23


def rows_as_csv(fit: Fit, rows: UserRows, chosen: np.ndarray) -> str:
    """Some rows as CSV, a header first, with their place in the data as the column "row".

    Args:
        chosen: the places of the rows, in the order wanted.

    Raises:
        Refusal: they have too many cells.
    """
    if rows.text is not None:
        _check(len(chosen), len(rows.text.columns))
        return rows.text.selected(chosen.tolist(), number=_free("row", rows.text.names))
    if rows.frame is not None:
        _check(len(chosen), len(rows.frame.columns))
        part = rows.frame.iloc[chosen]
        part.insert(0, _free("row", [str(name) for name in part.columns]), chosen)
        named = part.index.name is not None or part.index.dtype.kind not in "iu"
        return part.to_csv(index=named, index_label=part.index.name or "index", lineterminator="\n")
    return _of_arrays(fit, rows, chosen)


def _of_arrays(fit: Fit, rows: UserRows, chosen: np.ndarray) -> str:
    """Rows without a table: the entries of each variable, labels for codes, and what stands beside them."""
    beside = {name: np.asarray(values) for name, values in rows.beside.items()}
    variables = [name for name in rows.table.names if name not in beside]
    # Latents that are known in some rows stand under their own names.
    of = {name: column_names(fit, name) if name in fit.model.observed else [name] for name in variables}
    names = [name for each in of.values() for name in each]
    beside = {name: values for name, values in beside.items() if name not in names}
    if rows.index is not None:
        beside = {_free("index", [*names, *beside]): np.array(rows.index, dtype=object), **beside}
    _check(len(chosen), len(names) + len(beside))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_free("row", [*names, *beside]), *beside, *names])
    # In the type of the rows, so that whole numbers stay whole.
    taken = rows.table.take(torch.from_numpy(chosen), None)
    columns = [_texts(values[chosen].reshape(len(chosen), -1), None) for values in beside.values()]
    columns += [
        _texts(taken[name].reshape(len(chosen), -1).numpy(), rows.table.schema[name].labels)
        for name in variables
    ]
    for place, row in enumerate(chosen.tolist()):
        writer.writerow([row, *(cell for of_variable in columns for cell in of_variable[place])])
    return text.getvalue()


def _texts(values: np.ndarray, labels: Sequence[Hashable] | None) -> list[list[str]]:
    """Cells (B, D) as text, empty where missing."""
    if labels is not None:
        return [["" if code != code else str(labels[int(code)]) for code in row] for row in values]
    # By str of NumPy, which writes the fewest digits that give the same number in its type.
    return [["" if cell is None or cell != cell else str(cell) for cell in row] for row in values]


def _free(name: str, taken: Sequence[str]) -> str:
    """A name of a column that is not taken."""
    while name in taken:
        name += "_"
    return name


def _check(rows: int, columns: int) -> None:
    if rows * columns > _CELLS:
        raise Refusal(
            f"a CSV file must have at most {_CELLS} cells; {rows} rows of {columns} columns have more: choose at most "
            f"{_CELLS // columns} rows"
        )
