"""One HTML file of the page: its styles, its scripts and a payload inside, and a policy that allows these alone."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping
from importlib.resources import files

# The scripts that run a payload, in the order in which they need each other.
SCRIPTS = (
    "tensors arrays operators_elementwise operators_shapes operators_indices operators_reductions "
    "operators_matrices operators_pictures graph quantiles likelihoods views chosen_rows weighted_draws "
    "attribute_readers attributes exported_source start_exported"
).split()
# What a server's page has in place of them.
_OF_SERVER = {"server_source.js", "start.js"}


def inline_page(payload: Mapping[str, object], title: str) -> str:
    """The text of the file.

    Args:
        payload: what ``lfm.exportedSource`` reads.
        title: of the page.
    """
    page = files("pyro_lfm.explorer").joinpath("page")
    skeleton = page.joinpath("index.html").read_text("utf-8")
    names = re.findall(r'(?:href|src)="page/([\w.]+)"', skeleton)
    style = "\n".join(page.joinpath(name).read_text("utf-8") for name in names if name.endswith(".css"))
    shown = [page.joinpath(name) for name in names if name.endswith(".js") and name not in _OF_SERVER]
    own = [files("pyro_lfm.explorer").joinpath("offline", f"{name}.js") for name in SCRIPTS]
    script = "\n".join(each.read_text("utf-8") for each in (*shown, *own)).replace("</script", "<\\/script")
    text = _between(skeleton, "styles", f"<style>{style}</style>")
    data = json.dumps(_finite(payload), ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace(
        "<", "\\u003c"
    )
    holder = f'<script type="application/json" id="payload">{data}</script>'
    text = _between(text, "scripts", f"{holder}\n<script>{script}</script>")
    policy = f'<meta http-equiv="Content-Security-Policy" content="{_policy(style, script)}">'
    text = text.replace('<meta charset="utf-8">', f'<meta charset="utf-8">\n{policy}', 1)
    return re.sub(r"<title>.*?</title>", lambda _: f"<title>{_escaped(title)}</title>", text, count=1)


def _finite(value: object) -> object:
    """The same with null for numbers that JSON has no word for."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _between(text: str, marker: str, content: str) -> str:
    start, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    before, _, rest = text.partition(start)
    return f"{before}{content}{rest.partition(end)[2]}"


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(content: str) -> str:
    """The source of a policy that allows one inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
