"""``application``: the FastAPI application of a session: the page, its files, and the answers to what it asks."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pyro_lfm.explorer.page_answers import Answers
from pyro_lfm.explorer.page_files import INDEX, page_files
from pyro_lfm.explorer.same_origin import SameOrigin
from pyro_lfm.explorer.session import Session
from pyro_lfm.web.answering import answered, in_words
from pyro_lfm.web.bodies import Bodies
from pyro_lfm.web.errors_as_json import add_errors
from pyro_lfm.web.json_requests import Request as Fields
from pyro_lfm.web.json_requests import parsed
from pyro_lfm.web.limits import Limits
from pyro_lfm.web.refusal import Json, Refusal

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response
    from starlette.types import ASGIApp

    Answer = TypeVar("Answer")

LOG = logging.getLogger("pyro_lfm.explorer")
# A row of a large picture takes some hundred kilobytes, the places of a million rows seven megabytes.
LIMITS = Limits(body=2**23, bodies=2**26)
# The fields of each request that has a body.
FIELDS = {
    "decode": ("z", "covariates", "labels"),
    "encode": ("views", "covariates"),
    "summary": ("rows",),
    "csv": ("rows",),
    "generate": ("attributes", "n", "seed"),
    "edit": ("z", "row", "views", "covariates", "labels", "attributes", "seed"),
}
_BYTES, _JSON, _CSV = "application/octet-stream", "application/json", "text/csv; charset=utf-8"


def application(session: Session, host: str, threads: ThreadPoolExecutor) -> ASGIApp:
    """The application of a session, for requests that name ``host`` or a loopback name; ``threads`` answer them."""
    from fastapi import FastAPI

    service = FastAPI(
        title="pyro_lfm", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
    )
    add_errors(service)
    answers = Answers(session)
    _add_page(service)
    _add_reads(service, answers, threads)
    _add_requests(service, answers, threads)
    return SameOrigin(service, host)


def _add_page(service: FastAPI) -> None:
    from fastapi import Response

    files = page_files()

    async def index() -> Response:
        kind, content = files[INDEX]
        return Response(content, media_type=kind)

    async def file(name: str) -> Response:
        if name not in files:
            raise Refusal("the page has no such file", 404)
        kind, content = files[name]
        return Response(content, media_type=kind)

    service.add_api_route("/", index, response_model=None)
    service.add_api_route("/page/{name}", file, response_model=None)


def _add_reads(service: FastAPI, answers: Answers, threads: ThreadPoolExecutor) -> None:
    """The paths of GET: what the page needs at its start, a colour of the map, a row."""
    from fastapi import Response

    info, points = json.dumps(answers.session.info(), allow_nan=False).encode(), answers.points()

    async def of_info() -> Response:
        return Response(info, media_type=_JSON)

    async def of_points() -> Response:
        return Response(points, media_type=_BYTES)

    async def colour(place: str) -> Response:
        def content() -> bytes:
            return in_words("/api/colour", lambda: answers.colour(_whole(place)), LOG)

        return Response(await _in_thread(threads, content), media_type=_BYTES)

    async def row(place: str) -> Response:
        def content() -> bytes:
            answer = in_words("/api/row", lambda: answers.row(_whole(place)), LOG)
            return json.dumps(answer, allow_nan=False).encode()

        return Response(await _in_thread(threads, content), media_type=_JSON)

    async def learned() -> Response:
        content = await _in_thread(threads, lambda: in_words("/api/learned", answers.learned, LOG))
        return Response(content, media_type=_BYTES)

    service.add_api_route("/api/learned", learned, response_model=None)
    service.add_api_route("/api/info", of_info, response_model=None)
    service.add_api_route("/api/points", of_points, response_model=None)
    service.add_api_route("/api/colour/{place}", colour, response_model=None)
    service.add_api_route("/api/row/{place}", row, response_model=None)


def _add_requests(service: FastAPI, answers: Answers, threads: ThreadPoolExecutor) -> None:
    """The paths of POST, each with a body of JSON."""
    from fastapi import Request, Response

    bodies = Bodies(LIMITS)

    def add(name: str, content: Callable[[bytes], bytes], kind: str) -> None:
        async def answer(request: Request) -> Response:
            body = await bodies.read(request)
            return Response(await _in_thread(threads, lambda: content(body)), media_type=kind)

        # The annotations are strings, which FastAPI would look up among the names of this file.
        answer.__annotations__ = {"request": Request, "return": Response}
        service.add_api_route(f"/api/{name}", answer, methods=["POST"], response_model=None)

    def csv(body: bytes) -> bytes:
        return in_words("/api/csv", lambda: answers.csv(parsed(body, FIELDS["csv"])), LOG).encode()

    methods = (answers.decode, answers.encode, answers.summary, answers.generate, answers.edit)
    for method in methods:
        name = method.__name__
        add(name, partial(_as_json, f"/api/{name}", FIELDS[name], method), _JSON)
    add("csv", csv, _CSV)


def _as_json(
    path: str, fields: Sequence[str], method: Callable[[Fields], dict[str, Json]], body: bytes
) -> bytes:
    return answered(path, fields, method, body, LOG)


async def _in_thread(threads: ThreadPoolExecutor, function: Callable[[], Answer]) -> Answer:
    """The value of a function that computes, so that meanwhile other requests are read."""
    return await asyncio.get_running_loop().run_in_executor(threads, function)


def _whole(text: str) -> int:
    """A whole number of a path."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 15:
        raise Refusal("a path must end in the place of a row or a colour, a whole number", 404)
    return int(text)
