"""``pyro-lfm init DATA``: writes a first declaration for a data file."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from pyro_lfm.cli.first_declaration import first_declaration
from pyro_lfm.cli.output import AsJson, Value, say, show
from pyro_lfm.cli.output_files import Force, check_output
from pyro_lfm.data_files.data_file import read_data
from pyro_lfm.storage.whole_files import whole_file


def init(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="A data file: .csv, .parquet, .npy, .npz or .h5ad.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The declaration; by default DATA.toml.")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write a first declaration for a data file: the kinds of its columns with the reasons, a model, a guide, an inference.

    It is commented TOML, to be read and edited. Its columns are explained by a few factors.
    """
    place = out if out is not None else Path(f"{data.name.split('.')[0] or 'data'}.toml")
    file = read_data(data)
    check_output(place, force, (".toml",))
    import pyro_lfm as lfm

    written = first_declaration(file, place.absolute())
    for name, why in written.left_out.items():
        say(f"column {name} is left out: {why}")
    with whole_file(place) as beside:
        beside.write_text(written.text, encoding="utf-8")
        # A declaration that could not be read would be of no use.
        lfm.declare(beside)
    result: dict[str, Value] = {
        "file": str(place),
        "rows": len(file),
        "columns": dict(written.columns),
        "left_out": dict(written.left_out),
    }
    count = len(written.columns)
    columns = f", {count} column{'s' * (count > 1)}" if count else ""
    text = f"{place}: a declaration for {len(file):,} rows{columns}\nread it, then: pyro-lfm fit {shlex.quote(str(place))}"
    show(result, text, as_json)
