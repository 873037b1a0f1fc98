"""``pyro-lfm impute RUN DATA``: fills the missing cells of a file, and leaves all others as they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyro_lfm.cli.adapted_guide import RefineSteps, refined
from pyro_lfm.cli.output import LARGEST_SEED, AsJson, Value, say, show
from pyro_lfm.cli.output_files import Force, check_output
from pyro_lfm.cli.row_files import ARRAYS, TABLES, check_numbers, write_arrays, write_frame
from pyro_lfm.cli.runs import RunFolder, open_run
from pyro_lfm.cli.user_parts import PartsFile
from pyro_lfm.data_files.data_file import DataFile, read_data
from pyro_lfm.data_files.named_rows import columns_of, rows_of_fit
from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.storage.whole_files import whole_file

if TYPE_CHECKING:
    import pandas as pd

    from pyro_lfm.inference import Fit, Imputation

DataArgument = Annotated[Path, typer.Argument(metavar="DATA", help="Rows with the columns that were fitted.")]


def impute(
    run: RunFolder,
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The filled file: .csv, .parquet, .npy or .npz.")],
    draws: Annotated[int, typer.Option(min=1, help="Draws of each missing cell.")] = 200,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Of the draws.")] = 0,
    cells: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write a table of the filled cells, rows counted from 0, with the ends of their intervals.",
        ),
    ] = None,
    level: Annotated[float, typer.Option(help="The probability of these intervals.")] = 0.9,
    refine: RefineSteps = None,
    force: Force = False,
    parts: PartsFile = None,
    as_json: AsJson = False,
) -> None:
    """Fill the missing cells of a file. From CSV to CSV every other byte stays as it is.

    A missing number becomes the mean of its predictive distribution, a label the most probable one. So the filled file is
    good for a look, and too certain for an analysis: --cells has the intervals.
    """
    check_output(out, force, (*TABLES, *ARRAYS))
    if cells is not None:
        check_output(cells, force, TABLES)
    if not 0 < level < 1:
        raise DeclarationError(f"--level must be a probability between 0 and 1; got {level:g}")
    fit = open_run(run, parts)
    file = read_data(data)
    if out.suffix == ".npy" and file.frame is not None:
        check_numbers(out, file.frame)
    done = refined(fit, len(file), refine).impute(rows_of_fit(fit, file), draws=draws, seed=seed)
    if file.frame is None:
        _write_arrays(out, done)
    else:
        _write_table(out, fit, file, file.frame, done)
    if cells is not None:
        write_frame(cells, filled_cells(fit, file, done, level))
    filled = sum(int(gaps.sum()) for gaps in done.missing.values())
    result: dict[str, Value] = {
        "out": str(out),
        "rows": len(file),
        "filled": filled,
        "cells": None if cells is None else str(cells),
    }
    show(result, f"{out}: {filled:,} cells of {len(file):,} rows filled", as_json)


def filled_frame(fit: Fit, frame: pd.DataFrame, values: Any, frames: Any = None) -> pd.DataFrame:
    """The modelled columns of a table with values in the missing cells.

    Args:
        values: rows by observed variable. frames: filled tables by observed variable, if there are some.
    """
    if fit.table is not None:
        return fit.table.decode(values, index=frame.index)
    import pandas as pd

    if frames:
        return pd.concat([each if each.ndim > 1 else each.to_frame() for each in frames.values()], axis=1)
    names = {n: fit.schema[n].names or [n] for n in values}
    columns = {
        c: v.reshape(len(v), -1)[:, k].numpy() for n, v in values.items() for k, c in enumerate(names[n])
    }
    return pd.DataFrame(columns, index=frame.index)


def filled_cells(fit: Fit, file: DataFile, done: Imputation, level: float) -> pd.DataFrame:
    """A row for each filled cell: its row, counted from 1, its column, value, and the ends of its interval."""
    if file.frame is None:
        raise DataError("--cells needs a table with columns: give a .csv or .parquet file")
    import pandas as pd

    frame = file.frame
    value = filled_frame(fit, frame, done.values, done.frames)
    low, high = (filled_frame(fit, frame, end) for end in done.interval(level))
    rows = [
        {
            "row": int(i) + 1,
            "column": str(name),
            "value": value[name].iloc[i],
            "low": low[name].iloc[i] if name in low else None,
            "high": high[name].iloc[i] if name in high else None,
        }
        for name in value.columns
        for i in frame[name].isna().to_numpy().nonzero()[0]
    ]
    table = pd.DataFrame(rows, columns=["row", "column", "value", "low", "high"])
    # Columns of several kinds stand below each other.
    return table.astype({"value": str, "low": "string", "high": "string"})


def _write_table(out: Path, fit: Fit, file: DataFile, frame: pd.DataFrame, done: Imputation) -> None:
    filled = filled_frame(fit, frame, done.values, done.frames)
    known = columns_of(fit) or list(filled.columns)
    for name in frame.columns:
        if name not in known and (gaps := int(frame[name].isna().sum())):
            say(f"column {name} is not in the model: its {gaps} missing cells stay")
    if file.text is not None and out.suffix == ".csv":
        content = file.text.filled(filled)
        with whole_file(out) as beside:
            beside.write_bytes(content)
        return
    whole = frame.copy()
    for name in filled.columns:
        whole[name] = filled[name]
    write_frame(out, whole)


def _write_arrays(out: Path, done: Imputation) -> None:
    from pyro_lfm.cli.row_files import entries_of

    arrays = {name: values.cpu().numpy() for name, values in done.values.items()}
    write_arrays(out, arrays, {name: entries_of(name, array.shape[1:]) for name, array in arrays.items()})
