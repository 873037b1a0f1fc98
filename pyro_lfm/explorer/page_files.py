"""``page_files``: the files of the page, which lie in ``page/``, read once; the application serves these and no others."""

from __future__ import annotations

from importlib.resources import files

INDEX = "index.html"
_KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


def page_files() -> dict[str, tuple[str, bytes]]:
    """{name: (media type, content)} of all files of the page.

    >>> page_files()["index.html"][0]
    'text/html; charset=utf-8'
    """
    contents = {}
    for file in files("pyro_lfm.explorer").joinpath("page").iterdir():
        ending = file.name.rpartition(".")[2]
        if ending in _KINDS and not file.name.startswith("."):
            contents[file.name] = (_KINDS[ending], file.read_bytes())
    return contents
