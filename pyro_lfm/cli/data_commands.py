"""``pyro-lfm data shuffle IN OUT``: a data file in random order; the group of commands about data files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyro_lfm.cli.output import LARGEST_SEED, AsJson, show
from pyro_lfm.cli.output_files import Force
from pyro_lfm.errors import DataError

data_program = typer.Typer(help="Data files: put their rows in random order.", rich_markup_mode=None)


@data_program.callback()
def _group() -> None:
    """Data files: put their rows in random order."""


@data_program.command()
def shuffle(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="IN", help="A .npy, .csv, .tsv, .parquet, .zarr or .h5ad file, or a folder of .parquet."
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The new file, of the same format.")],
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Of the order.")] = 0,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write the rows of a data file in random order, with little memory, for files that are larger than it.

    Rows of a file are read block by block in training. A file that is sorted by label, by plate or by time is best shuffled
    once. While OUT is written, as much disk is needed again beside it.
    """
    if out.exists() and not force:
        raise DataError(f"OUT is {out}, which is there already: name another file, or replace it by --force")
    from pyro_lfm.data import shuffle

    written = shuffle(path, out, seed=seed)
    show({"out": str(written), "seed": seed}, f"{written}: the rows of {path} in random order", as_json)
