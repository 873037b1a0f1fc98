"""The page ``/docs``: the operations of a service from its OpenAPI schema, as HTML without scripts or external requests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

from pyro_lfm.serving.operations import Operation

# The browser loads nothing for the page and runs nothing in it.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "Referrer-Policy": "no-referrer",
}
_STYLE = """body { font: 16px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
pre { background: #f4f4f4; padding: .75rem; overflow: auto; max-height: 24rem; font-size: 13px }
h2 { border-top: 1px solid #ccc; padding-top: 1rem }"""


def operations_page(title: str, description: str, operations: Sequence[Operation], example: str) -> str:
    """The page as HTML.

    Args:
        title: of the service.
        description: of the model, lines of text.
        operations: those that are shown.
        example: rows, as in a request.
    """
    sections = []
    for operation in operations:
        fields = json.dumps(operation.fields, indent=1, ensure_ascii=False)
        body = f'{{"rows": {example}}}' if "rows" in operation.required else '{"n": 3}'
        sections.append(
            f"<h2>POST /{escape(operation.name)}</h2><p>{escape(operation.summary)}</p>"
            f"<pre>{escape(body)}</pre>"
            f"<details><summary>fields of a request</summary><pre>{escape(fields)}</pre></details>"
        )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1><pre>{escape(description)}</pre>"
        "<p>Requests and answers are JSON. null means missing. An error is {&quot;error&quot;: sentence} with a status 4xx."
        ' <a href="openapi.json">openapi.json</a> has the schema of this page, <a href="info">info</a> the model.</p>'
        f"{''.join(sections)}</body></html>"
    )
