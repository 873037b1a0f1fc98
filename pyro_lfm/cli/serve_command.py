"""``pyro-lfm serve RUN``: a saved fit as a service over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyro_lfm.cli.user_parts import PartsFile, parts_of


def serve(
    run: Annotated[Path, typer.Argument(help="The folder of a saved fit.")],
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen at; 0 for any that is free.")] = 8000,
    parts: PartsFile = None,
) -> None:
    """Serve a saved fit over HTTP, to this machine alone unless --host says otherwise. GET /docs describes it."""
    import pyro_lfm as lfm

    fit = lfm.load(run, parts=parts_of(parts))
    lfm.serving.run(fit, host=host, port=port)
