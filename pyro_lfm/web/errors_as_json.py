"""``add_errors``: every error of an application becomes {"error": sentence}; for ``serving`` and ``explorer``."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from pyro_lfm.web.refusal import Refusal

if TYPE_CHECKING:
    from fastapi import FastAPI, Request


def add_errors(service: FastAPI, hint: str = "") -> None:
    """Makes an application answer every error as {"error": sentence}.

    Args:
        hint: where its paths are listed, such as "GET /docs"; empty where no page lists them.
    """
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException

    async def refused(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Refusal)
        return JSONResponse({"error": str(error)}, error.status)

    async def of_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        phrase = HTTPStatus(error.status_code).phrase.lower()
        words = {
            404: "there is no such path" + f": {hint} lists those that there are" * bool(hint),
            405: f"the path does not take {request.method[:20]}" + f": {hint} lists the methods" * bool(hint),
        }
        return JSONResponse(
            {"error": words.get(error.status_code, phrase)}, error.status_code, headers=error.headers
        )

    async def failed(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": "the service failed at this request; its log has the reason"}, 500)

    service.add_exception_handler(Refusal, refused)
    service.add_exception_handler(HTTPException, of_http)
    service.add_exception_handler(Exception, failed)
