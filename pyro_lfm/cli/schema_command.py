"""``pyro-lfm schema``: the JSON schema of declarations, for editors of TOML files."""

from __future__ import annotations

import json


def schema() -> None:
    """Print the JSON schema of a declaration file."""
    from pyro_lfm.documents.json_schema import json_schema

    print(json.dumps(json_schema(), indent=2))
