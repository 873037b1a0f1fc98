"""``app``: the FastAPI application of a fit, and ``run``, which serves it by uvicorn."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pyro_lfm.errors import DeclarationError
from pyro_lfm.identity.version import library_version
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.serving.answers import Answers
from pyro_lfm.serving.operations import Operation, operations
from pyro_lfm.serving.operations_page import HEADERS, operations_page
from pyro_lfm.tables.table_columns import TableColumns
from pyro_lfm.web.answering import THREADS, answered
from pyro_lfm.web.bodies import Bodies
from pyro_lfm.web.errors_as_json import add_errors
from pyro_lfm.web.json_columns import FrameColumns
from pyro_lfm.web.limits import Limits
from pyro_lfm.web.listening import address_of, listening
from pyro_lfm.web.refusal import Json

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

LOG = logging.getLogger("pyro_lfm.serving")
_TITLE = "pyro_lfm"
_MISSING = "pyro_lfm.serving needs {name}, which is not installed: pip install 'pyro_lfm[app]'"
_ERROR: dict[str, Json] = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
}


def app(fit: Fit, table: FrameColumns | None = None, limits: Limits | None = None) -> FastAPI:
    """A FastAPI application that answers requests about a fit in JSON, for any ASGI server.

    Its paths are ``POST /posterior``, ``/reconstruct``, ``/impute``, ``/sample``, ``/log_likelihood``, and ``GET /info``
    (the model), ``/docs`` (a page about them) and ``/openapi.json``. Rows come as a list of rows, as objects by the names of
    columns, or as lists by name. null means missing. Labels are those of the fitted rows. An error is
    ``{"error": sentence}`` with a status 4xx. Answers do not depend on what other threads ask meanwhile.

    Args:
        fit: the fit.
        table: the ``lfm.heterogeneous`` table that the model's factors come from. Rows then come by its columns, in their
            units and labels. By default that of the fit, where it has one.
        limits: the sizes of a request, ``Limits()`` by default.

    Raises:
        DeclarationError: fit is none, or table is that of another model.
        ImportError: without FastAPI, which the extra ``pyro_lfm[app]`` installs.

    >>> import torch, pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(2, mean=lfm.Linear()))
    >>> fit = lfm.fit(model, torch.randn(40, 2), lfm.EM(), seed=0)
    >>> [route.path for route in app(fit).routes if route.path.startswith("/i")]
    ['/info', '/impute']
    """
    try:
        from fastapi import FastAPI
    except ModuleNotFoundError as error:
        raise ImportError(_MISSING.format(name=error.name)) from None
    if not isinstance(fit, Fit):
        raise DeclarationError(f"fit must be a Fit, as lfm.fit gives it; got {type(fit).__name__}")
    limits = Limits() if limits is None else limits
    if table is None and isinstance(fit.table, TableColumns):
        table = fit.table
    answers = Answers(fit, table, limits)
    service = FastAPI(
        title=_TITLE,
        version=library_version(),
        description=answers.text,
        # FastAPI's own pages load their scripts from another host.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    add_errors(service, "GET /docs")
    _add_pages(service, answers)
    bodies, threads = Bodies(limits), ThreadPoolExecutor(THREADS, "pyro_lfm.serving")
    for operation in operations(answers):
        service.add_api_route(
            f"/{operation.name}",
            _endpoint(operation, bodies, threads),
            methods=["POST"],
            name=operation.name,
            summary=operation.summary,
            openapi_extra=operation.openapi(),
            responses={
                "4XX": {"description": "refused", "content": {"application/json": {"schema": _ERROR}}}
            },
        )
    return service


def run(
    fit: Fit,
    host: str = "127.0.0.1",
    port: int = 8000,
    table: FrameColumns | None = None,
    limits: Limits | None = None,
) -> None:
    """Serves a fit until it is interrupted, to this machine alone unless ``host`` says otherwise.

    The service knows no users. Before it is opened to others, put a proxy that does before it.

    Args:
        fit, table, limits: as for ``app``.
        host: the address to listen at. "0.0.0.0" means all of this machine's.
        port: the port to listen at.

    Raises:
        DeclarationError: the address is in use or none of this machine's, or as for ``app``.
        ImportError: without FastAPI and uvicorn, which the extra ``pyro_lfm[app]`` installs.

    >>> run("not a fit")
    Traceback (most recent call last):
    pyro_lfm.errors.DeclarationError: fit must be a Fit, as lfm.fit gives it; got str
    """
    try:
        import uvicorn
    except ModuleNotFoundError as error:
        raise ImportError(_MISSING.format(name=error.name)) from None
    config = uvicorn.Config(app(fit, table, limits), access_log=False, log_level="warning")
    with listening(host, port) as listener:
        address = address_of(host, listener)
        print(f"{address} serves the fit, {address}docs lists its requests; Ctrl-C ends it", file=sys.stderr)
        uvicorn.Server(config).run(sockets=[listener])


def _endpoint(
    operation: Operation, bodies: Bodies, threads: ThreadPoolExecutor
) -> Callable[[Request], Awaitable[Response]]:
    from fastapi import Request, Response

    async def endpoint(request: Request) -> Response:
        body = await bodies.read(request)
        path, fields = f"/{operation.name}", [*operation.fields]
        content = await asyncio.get_running_loop().run_in_executor(
            threads, answered, path, fields, operation.answer, body, LOG
        )
        return Response(content, media_type="application/json")

    # The annotations are strings, which FastAPI would look up among the names of this file.
    endpoint.__annotations__ = {"request": Request, "return": Response}
    return endpoint


def _add_pages(service: FastAPI, answers: Answers) -> None:
    from fastapi.responses import HTMLResponse, JSONResponse

    info = answers.info()
    page = operations_page(_TITLE, answers.text, operations(answers), answers.example())

    async def information() -> JSONResponse:
        return JSONResponse(info)

    async def documentation() -> HTMLResponse:
        return HTMLResponse(page, headers=HEADERS)

    service.add_api_route(
        "/info", information, response_model=None, summary=(Answers.info.__doc__ or "").splitlines()[0]
    )
    service.add_api_route("/", information, response_model=None, include_in_schema=False)
    service.add_api_route("/docs", documentation, response_model=None, include_in_schema=False)
