"""``export_page``: a session as one HTML file that works from disk, without a server and without a network."""

from __future__ import annotations

import os
from pathlib import Path

from pyro_lfm.errors import DataError
from pyro_lfm.explorer.exported.inline_page import inline_page
from pyro_lfm.explorer.exported.page_payload import page_payload
from pyro_lfm.explorer.session import Session
from pyro_lfm.storage.whole_files import whole_file

# About the most bytes of a page.
ROOM = 24_000_000


def export_page(session: Session, path: str | os.PathLike[str], *, room: int = ROOM) -> Path:
    """Writes a page that shows a session without a server.

    It holds the points of all rows, the decoder, the encoder where it can be a graph, and the data of the first rows as far
    as they have room; pictures with 255 grey levels. Its scripts are those of the explorer, and an interpreter of graphs.

    Args:
        session: what is shown.
        path: of the file, such as "page.html".
        room: about the most bytes of the page; rows of the data fill what all else leaves.

    Raises:
        DeclarationError: the decoder cannot run in a page. DataError: the file cannot be written.
    """
    target = page_path(path)
    text = inline_page(page_payload(session, room), session.rows.title)
    with whole_file(target) as beside:
        beside.write_text(text, encoding="utf-8", newline="")
    return target


def page_path(path: str | os.PathLike[str]) -> Path:
    """The path of a page that can be written.

    Raises:
        DataError: another ending, or a folder that is not there.

    >>> page_path("faces.html")
    PosixPath('faces.html')
    """
    try:
        target = Path(path)
    except TypeError:
        raise DataError(f'export must be the path of a page, such as "page.html"; got {path!r}') from None
    if target.suffix.lower() not in (".html", ".htm"):
        raise DataError(f'export must end in .html, such as "page.html"; got {str(path)!r}')
    if target.is_dir():
        raise DataError(f"export leads to {target}, which is a folder: name a file")
    if not target.parent.is_dir():
        raise DataError(
            f"export is {target}, and there is no folder {target.parent}: make it, or name another one"
        )
    return target
