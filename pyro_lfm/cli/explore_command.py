"""``pyro-lfm explore RUN``: a saved fit as a page in the browser."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from pyro_lfm.cli.output import AsJson, Value, show
from pyro_lfm.cli.output_files import Force, check_output
from pyro_lfm.cli.runs import Notes, RunFolder, open_run
from pyro_lfm.cli.user_parts import PartsFile
from pyro_lfm.errors import DataError, DeclarationError


def explore(
    run: RunFolder,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The rows to show; by default those that the run was fitted to."),
    ] = None,
    shape: Annotated[
        str | None, typer.Option(metavar="HxW", help="Rows are pictures of this shape, 8x8 or 3x32x32.")
    ] = None,
    attributes: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN", help="A column to generate and edit rows by; may be repeated, or a,b,c."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen at; 0 for any that is free.")] = 5055,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="PAGE.html", help="Write the page as one file that works from disk; nothing is served."
        ),
    ] = None,
    force: Force = False,
    parts: PartsFile = None,
    as_json: AsJson = False,
) -> None:
    """Show a saved fit in the browser: sliders for its factors, a map of the rows, rows to encode and edit."""
    sizes = None if shape is None else _sizes(shape)
    names = None if attributes is None else [name.strip() for each in attributes for name in each.split(",")]
    if export is not None:
        check_output(export, force, (".html",), "--export")
    import pyro_lfm as lfm

    fit = open_run(run, parts)
    rows = _data_of(run) if data is None else data
    if export is not None:
        page = lfm.explore(fit, rows, attributes=names, shape=sizes, export=export)
        size = page.stat().st_size
        words = f"{page} shows {run}, {size / 1e6:.1f} MB: open it in a browser"
        show({"run": str(run), "page": str(page), "bytes": size}, words, as_json)
        return
    explorer = lfm.explore(
        fit,
        rows,
        attributes=names,
        shape=sizes,
        host=host,
        port=port,
        block=False,
    )
    encoded = f"{explorer.rows:,} rows, encoded in {explorer.seconds:.1f} s"
    words = f"{explorer.url} shows {run}: {encoded}; Ctrl-C ends it"
    result: dict[str, Value] = {
        "run": str(run),
        "url": explorer.url,
        "rows": explorer.rows,
        "seconds": explorer.seconds,
    }
    show(result, words, as_json)
    sys.stdout.flush()
    explorer.wait()


def _sizes(shape: str) -> tuple[int, ...]:
    """The sizes of 8x8.

    >>> _sizes("3x32x32")
    (3, 32, 32)
    """
    if not re.fullmatch(r"[1-9]\d{0,4}(x[1-9]\d{0,4}){1,2}", shape):
        raise DeclarationError(f"--shape must be HEIGHTxWIDTH, or 3xHEIGHTxWIDTH, such as 8x8; got {shape!r}")
    return tuple(int(size) for size in shape.split("x"))


def _data_of(run: Path) -> Path:
    """The file that a run was fitted to, as its notes say."""
    noted = Notes.of(run).data
    if not noted:
        raise DataError(f"{run} does not say which rows it was fitted to: name a file, --data FILE")
    path = Path(noted)
    if not path.exists():
        raise DataError(f"{run} was fitted to {noted}, which is not there: name a file, --data FILE")
    return path
