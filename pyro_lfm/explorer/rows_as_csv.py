"""``rows_as_csv``: chosen rows as the user has them: the text of their CSV file, or the cells of their table."""

from __future__ import annotations

import csv
import io

import numpy as np
import torch

from pyro_lfm.evaluate.decoding.decoded_columns import entry_names
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
        return rows.text.selected(chosen.tolist(), number="row")
    if rows.frame is not None:
        _check(len(chosen), len(rows.frame.columns))
        part = rows.frame.iloc[chosen]
        label = "row" if "row" not in part.columns else "row_number"
        part.insert(0, label, chosen)
        named = part.index.name is not None or part.index.dtype.kind not in "iu"
        return part.to_csv(index=named, index_label=part.index.name or "index", lineterminator="\n")
    return _of_arrays(fit, rows, chosen)


def _of_arrays(fit: Fit, rows: UserRows, chosen: np.ndarray) -> str:
    """Rows without a table: the entries of each variable, and what stands beside them."""
    names = [name for variable in rows.table.names for name in entry_names(fit, variable)]
    _check(len(chosen), len(names))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", *names])
    # In the type of the rows, so that whole numbers stay whole.
    taken = rows.table.take(torch.from_numpy(chosen), None)
    columns = [values.reshape(len(chosen), -1) for values in taken.values()]
    for place, row in enumerate(chosen.tolist()):
        # By str of NumPy, which writes the fewest digits that give the same number in its type.
        cells = [cell for values in columns for cell in values[place].numpy()]
        writer.writerow([row, *("" if cell != cell else str(cell) for cell in cells)])
    return text.getvalue()


def _check(rows: int, columns: int) -> None:
    if rows * columns > _CELLS:
        raise Refusal(
            f"a CSV file must have at most {_CELLS} cells; {rows} rows of {columns} columns have more: choose at most "
            f"{_CELLS // columns} rows"
        )
