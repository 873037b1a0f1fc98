"""``pyro-lfm serve RUN``: a saved fit as a service over HTTP."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pyro_lfm.cli.output import AsJson, show
from pyro_lfm.cli.runs import RunFolder, open_run
from pyro_lfm.cli.user_parts import PartsFile


def serve(
    run: RunFolder,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen at; 0 for any that is free.")] = 8000,
    parts: PartsFile = None,
    as_json: AsJson = False,
) -> None:
    """Serve a saved fit over HTTP, to this machine alone unless --host says otherwise. GET /docs describes it."""
    import pyro_lfm as lfm

    fit = open_run(run, parts)
    if as_json:
        show({"run": str(run), "host": host, "port": port}, "", as_json)
        sys.stdout.flush()
    lfm.serving.run(fit, host=host, port=port)
