"""``pyro-lfm export RUN``: a saved fit as ONNX files, or as programs of torch.export."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from pyro_lfm.cli.output import AsJson, show
from pyro_lfm.cli.runs import RunFolder, open_run
from pyro_lfm.cli.user_parts import PartsFile


class Format(Enum):
    """The kinds of files."""

    onnx = "onnx"
    torch = "torch"


class Function(Enum):
    """The functions of a fit that are exported."""

    encode = "encode"
    decode = "decode"
    log_likelihood = "log_likelihood"


def export(
    run: RunFolder,
    out: Annotated[
        Path | None,
        typer.Option(help="model.onnx stands for model.encode.onnx and so on; by default in RUN."),
    ] = None,
    only: Annotated[
        list[Function] | None, typer.Option(help="A function to export; may be repeated. All by default.")
    ] = None,
    format: Annotated[Format, typer.Option(help="The kind of files.")] = Format.onnx,
    parts: PartsFile = None,
    as_json: AsJson = False,
) -> None:
    """Export a saved fit as ONNX files, which run with neither torch nor Pyro, or as programs of torch.export."""
    import pyro_lfm as lfm

    ending = ".onnx" if format is Format.onnx else ".pt2"
    fit = open_run(run, parts)
    functions: Any = tuple(function.value for function in only or Function)
    written = lfm.export(fit, out or run / f"model{ending}", parts=functions, format=format.value)
    files = {name: str(path) for name, path in written.items()}
    show({"files": files}, "\n".join(files.values()), as_json)
