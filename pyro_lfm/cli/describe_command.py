"""``pyro-lfm describe CONFIG | RUN``: the model, the guide and the bound as formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pyro_lfm.cli.configurations import read_configuration
from pyro_lfm.cli.output import AsJson, show
from pyro_lfm.cli.runs import open_run
from pyro_lfm.cli.settings import Settings
from pyro_lfm.cli.user_parts import PartsFile, parts_of
from pyro_lfm.errors import DeclarationError


def describe(
    source: Annotated[
        Path, typer.Argument(metavar="CONFIG|RUN", help="A declaration, or the folder of a fit.")
    ],
    settings: Settings = None,
    parts: PartsFile = None,
    as_json: AsJson = False,
) -> None:
    """Print the model, the guide and the bound as formulas."""
    import pyro_lfm as lfm

    if source.is_dir():
        if settings:
            raise DeclarationError(
                "--set changes a declaration, and a run cannot be changed: describe its CONFIG"
            )
        fit = open_run(source, parts)
        model: Any = fit.model
        guide: Any = fit.guide
        objective: Any = fit.objective
        document = fit.declaration()
    else:
        chosen = read_configuration(source, settings=settings or (), parts=parts_of(parts))
        model, guide = chosen.model, chosen.declaration.guide
        objective = getattr(chosen.declaration.inference, "objective", None)
        document = chosen.declaration.dict()
    text = lfm.describe(model, guide, objective) if guide is not None else lfm.describe(model)
    show({"description": str(text), "declaration": _plain(document)}, str(text), as_json)


def _plain(value: Any) -> Any:
    """A document with its large tensors as lists."""
    if isinstance(value, dict):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return value.tolist() if hasattr(value, "tolist") else value
