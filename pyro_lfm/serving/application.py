"""``app``: the FastAPI application of a fit, and ``run``, which serves it by uvicorn."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING

from pyro_lfm.errors import DataError, DeclarationError, TrainingError, first_line, gathering
from pyro_lfm.identity.version import library_version
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.serving.answers import Answers
from pyro_lfm.serving.bodies import Bodies
from pyro_lfm.serving.json_columns import FrameColumns
from pyro_lfm.serving.json_requests import parsed
from pyro_lfm.serving.limits import Limits
from pyro_lfm.serving.operations import Operation, operations
from pyro_lfm.serving.operations_page import HEADERS, operations_page
from pyro_lfm.serving.refusal import Json, Refusal
from pyro_lfm.shapes import whole
from pyro_lfm.tables.table_columns import TableColumns

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

# Requests that are answered at once. The model answers one at a time; meanwhile others are read and written.
_THREADS = 4
LOG = logging.getLogger("pyro_lfm.serving")
_TITLE = "pyro_lfm"
_MISSING = "pyro_lfm.serving needs {name}, which is not installed: pip install 'pyro_lfm[app]'"
_OVERFLOW = (
    "the model cannot compute with these rows, since its distributions have no finite parameters there: give rows like "
    "those that were fitted, and null where a number stands for a missing one"
)
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
        table: the ``lfm.heterogeneous`` table that the model's factors come from; rows then come by its columns, in their
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
    _add_errors(service)
    _add_pages(service, answers)
    bodies, threads = Bodies(limits), ThreadPoolExecutor(_THREADS, "pyro_lfm.serving")
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
        host: the address to listen at; "0.0.0.0" for all of this machine's.
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
    config = uvicorn.Config(app(fit, table, limits), access_log=False)
    with _listening(host, port) as listening:
        uvicorn.Server(config).run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens at an address.

    Raises:
        DeclarationError: the address is none of this machine's, or in use.
    """
    if whole("port", port, least=0) > 65535:
        raise DeclarationError(f"port must be at most 65535; got {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        words = getattr(error, "strerror", None) or "no address"
        raise DeclarationError(
            f"host and port must be an address that is free here; got {host!r} and {port} ({words.lower()}): another port, "
            "such as 8001, or 0 for any that is free"
        ) from None
    # An answer goes out in two pieces, of which the second would wait 40 ms for a reply to the first.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _endpoint(
    operation: Operation, bodies: Bodies, threads: ThreadPoolExecutor
) -> Callable[[Request], Awaitable[Response]]:
    from fastapi import Request, Response

    async def endpoint(request: Request) -> Response:
        body = await bodies.read(request)
        content = await asyncio.get_running_loop().run_in_executor(threads, _answered, operation, body)
        return Response(content, media_type="application/json")

    # The annotations are strings, which FastAPI would look up among the names of this file.
    endpoint.__annotations__ = {"request": Request, "return": Response}
    return endpoint


def _answered(operation: Operation, body: bytes) -> bytes:
    """The answer to a body, as JSON.

    Raises:
        Refusal: a request that the model cannot serve, with the library's message.
    """
    try:
        with gathering() as warnings:
            answer = operation.answer(parsed(body, [*operation.fields]))
    except (DataError, DeclarationError, TrainingError) as error:
        raise Refusal(" ".join(str(error).split())) from None
    except NotImplementedError:
        raise Refusal(
            f"the model has no answer to /{operation.name}: a distribution has no formula for it"
        ) from None
    except (ValueError, RuntimeError) as error:
        # A distribution refuses its parameters or a matrix is not positive definite: numbers have overflowed.
        LOG.warning("/%s refused: %s: %s", operation.name, type(error).__name__, first_line(error))
        LOG.debug("the error behind it", exc_info=True)
        raise Refusal(_OVERFLOW) from None
    if warnings:
        answer["warnings"] = [*warnings]
    return json.dumps(answer, allow_nan=False).encode()


def _add_errors(service: FastAPI) -> None:
    """Every error as {"error": sentence}."""
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException

    async def refused(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Refusal)
        return JSONResponse({"error": str(error)}, error.status)

    async def of_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        phrase = HTTPStatus(error.status_code).phrase.lower()
        words = {
            404: "there is no such path: GET /docs lists those that there are",
            405: f"the path does not take {request.method}: GET /docs lists the methods",
        }
        return JSONResponse(
            {"error": words.get(error.status_code, phrase)}, error.status_code, headers=error.headers
        )

    async def failed(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": "the service failed at this request; its log has the reason"}, 500)

    service.add_exception_handler(Refusal, refused)
    service.add_exception_handler(HTTPException, of_http)
    service.add_exception_handler(Exception, failed)


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
