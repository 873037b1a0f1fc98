"""``explore``: a fit as a page in the browser."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TypeAlias, overload

from pyro_lfm.data.frames import frame_of
from pyro_lfm.errors import DeclarationError
from pyro_lfm.evaluate.inputs import Array
from pyro_lfm.explorer.exported_page import export_page, page_path
from pyro_lfm.explorer.known_attributes import Given, known_attributes
from pyro_lfm.explorer.opened_explorer import Explorer
from pyro_lfm.explorer.page_application import application
from pyro_lfm.explorer.server import Server
from pyro_lfm.explorer.session import Session
from pyro_lfm.explorer.user_rows import Explored, user_rows
from pyro_lfm.explorer.views.choosing import Shape
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.warning_kinds import PrecisionWarning
from pyro_lfm.web.listening import address_of, listening

# Labels of the rows by name: a mapping, a frame; or those of one name, as an array.
Labels: TypeAlias = Mapping[str, Array] | Array | None
# The shape of pictures, or that of each variable by name.
GivenShape: TypeAlias = Sequence[int] | Mapping[str, Sequence[int]] | None
_MISSING = "lfm.explore needs {name}, which is not installed: pip install 'pyro_lfm[app]'"


@overload
def explore(
    fit: Fit,
    data: Explored = None,
    *,
    labels: Labels = None,
    attributes: Given = None,
    shape: GivenShape = None,
    export: str | os.PathLike[str],
) -> Path: ...


@overload
def explore(
    fit: Fit,
    data: Explored = None,
    *,
    labels: Labels = None,
    attributes: Given = None,
    shape: GivenShape = None,
    host: str = "127.0.0.1",
    port: int = 5055,
    block: bool | None = None,
) -> Explorer: ...


def explore(
    fit: Fit,
    data: Explored = None,
    *,
    labels: Labels = None,
    attributes: Given = None,
    shape: GivenShape = None,
    host: str = "127.0.0.1",
    port: int = 5055,
    block: bool | None = None,
    export: str | os.PathLike[str] | None = None,
) -> Explorer | Path:
    """Serves a page on which a fit can be explored: sliders for its factors, a map of the rows, rows to encode and edit.

    Args:
        fit: a fit of a model with real latents of each row.
        data: N rows as for the methods of the fit, the path of a file of them, or a data set, as ``lfm.data.faces()`` is.
            By default they are the fitted rows. Columns that the model does not read colour the map.
        labels: {name: N values}, or N values, numbers or labels, that colour the map too.
        attributes: what ``lfm.attributes.fit`` gives, or what it takes: {name: N labels}, or names of columns of the data
            and of labels. The page generates rows with the values that are asked for, and changes them in a row.
        shape: (H, W) or (C, H, W) of the pictures that rows are, C 1 or 3. For several variables it is {name: shape}. By
            default it is that of the declaration or of the data set. Without names of columns a square number of them is a
            picture.
        host: the address to listen at, this machine alone by default. The page asks for no password: who can reach the
            address can read the rows.
        port: the port to listen at. 0 means any that is free.
        block: whether to wait until Ctrl-C. By default in a script, and neither in a notebook nor at a prompt.
        export: the path of a page, such as "page.html": nothing is served, and the page is written as one file that works
            from disk without a network. It holds decoder, encoder, points, and rows as far as 24 MB have room.

    Returns:
        An ``Explorer`` with its ``url``. ``close()`` ends it. A notebook shows the page. With ``export`` the path.

    Raises:
        DeclarationError: a model without real latents of rows, an address that is in use, a shape that does not fit.
        DataError, ShapeError: rows or labels that do not fit.
        ImportError: without FastAPI and uvicorn, which the extra ``pyro_lfm[app]`` installs. A page to export needs
            ``pyro_lfm[export]`` instead.

    >>> import torch, pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> rows = torch.randn(40, 3)
    >>> fit = lfm.fit(model, rows, lfm.EM(), seed=0, progress=False)
    >>> explorer = lfm.explore(fit, rows, labels={"sign": rows[:, 0] > 0}, port=0, block=False)
    >>> explorer.close()
    """
    if not isinstance(fit, Fit):
        raise DeclarationError(f"fit must be a Fit, as lfm.fit gives it; got {type(fit).__name__}")
    if export is not None:
        target = page_path(export)
        return export_page(_session(fit, data, labels, attributes, shape), target)
    _check_installed()
    listener = listening(host, port)
    try:
        session = _session(fit, data, labels, attributes, shape)
        server = Server(lambda threads: application(session, host, threads), listener)
    except BaseException:
        listener.close()
        raise
    url, seconds = address_of(host, listener), session.posteriors.seconds
    explorer = Explorer(url, server, len(session.rows), seconds)
    if block if block is not None else not _at_a_prompt():
        print(f"{url} shows {explorer.rows:,} rows, encoded in {seconds:.1f} s; Ctrl-C ends it", flush=True)
        with suppress(KeyboardInterrupt):
            explorer.wait()
    return explorer


def _check_installed() -> None:
    """Raises ImportError without the extra ``app``."""
    for name in ("fastapi", "uvicorn"):
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            raise ImportError(_MISSING.format(name=error.name)) from None


def _session(fit: Fit, data: Explored, labels: Labels, attributes: Given, shape: GivenShape) -> Session:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrecisionWarning)  # it is about what is fitted
        rows, named = user_rows(fit, data), _by_name(labels)
    return Session(fit, rows, named, _shape(shape), known_attributes(fit, rows, named, attributes))


def _by_name(labels: Labels) -> dict[str, object]:
    if labels is None:
        return {}
    if isinstance(labels, Mapping):
        return {str(name): values for name, values in labels.items()}
    frame = frame_of(labels)
    if frame is not None:
        return {str(name): frame[name] for name in frame.columns}
    return {str(getattr(labels, "name", None) or "label"): labels}


def _shape(shape: GivenShape) -> Shape:
    if shape is None:
        return None
    if isinstance(shape, Mapping):
        return {name: _sizes(each) for name, each in shape.items()}
    return _sizes(shape)


def _sizes(shape: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(shape) if isinstance(shape, list | tuple) else ()
    if len(sizes) not in (2, 3) or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise DeclarationError(
            f"shape must be (H, W) or (C, H, W) of a picture, such as (8, 8); got {shape!r}"
        )
    return sizes


def _at_a_prompt() -> bool:
    """Whether somebody types at this process: a notebook, IPython, or Python's own prompt."""
    ipython = sys.modules.get("IPython")
    in_ipython = ipython is not None and ipython.get_ipython() is not None
    return in_ipython or hasattr(sys, "ps1") or bool(sys.flags.interactive)
