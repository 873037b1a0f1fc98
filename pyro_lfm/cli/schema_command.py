"""``pyro-lfm schema``: the JSON schema of declarations, for editors of TOML files."""

from __future__ import annotations

from pyro_lfm.cli.output import AsJson, show


def schema(as_json: AsJson = True) -> None:
    """Print the JSON schema of a declaration file, for editors; it is JSON with or without --json."""
    from pyro_lfm.documents.json_schema import json_schema

    show(json_schema(), "", as_json=True)
