"""The operations of a service: path, fields of a request, answer; the application and its OpenAPI schema read this list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from pyro_lfm.serving.answers import INCLUDE, Answers
from pyro_lfm.web.json_requests import Request
from pyro_lfm.web.refusal import Json


@dataclass(frozen=True)
class Operation:
    """One operation, ``POST /name``.

    Attributes:
        name: of the path.
        answer: gives the fields of an answer for those of a request.
        fields: the JSON schema of each field of a request.
        required: the fields that a request must have.
    """

    name: str
    answer: Callable[[Request], dict[str, Json]]
    fields: dict[str, Json]
    required: tuple[str, ...] = ("rows",)

    @property
    def summary(self) -> str:
        """The operation in a sentence."""
        return (self.answer.__doc__ or "").strip().splitlines()[0]

    def openapi(self) -> dict[str, Json]:
        """The request of the operation for OpenAPI."""
        required: list[Json] = [*self.required]
        schema: dict[str, Json] = {
            "type": "object",
            "properties": self.fields,
            "required": required,
            "additionalProperties": False,
        }
        return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def operations(answers: Answers) -> list[Operation]:
    """The operations of a service that gives these answers."""
    limits = answers.limits
    rows = answers.forms.schema()
    seed: Json = {"type": "integer", "minimum": 0, "default": 0}
    draws: Json = {"type": "integer", "minimum": 1, "maximum": limits.draws}
    names: list[Json] = [*INCLUDE]
    include: Json = {"type": "array", "items": {"enum": names}, "default": []}
    level: Json = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "default": 0.9}
    given: dict[str, Json] = {
        name: {"type": "array", "items": cast(Json, part.whole[name].schema())}
        for name, part in answers.given().items()
    }
    drawn: dict[str, Json] = {"draws": draws, "seed": seed}
    return [
        Operation("posterior", answers.posterior, {"rows": rows, "include": include}),
        Operation("reconstruct", answers.reconstruct, {"rows": rows, **drawn}),
        Operation("impute", answers.impute, {"rows": rows, "level": level, **drawn}),
        Operation(
            "sample",
            answers.sample,
            {
                "n": {"type": "integer", "minimum": 1, "maximum": limits.rows, "default": 1},
                "seed": {"type": "integer", "minimum": 0},
                "given": {"type": "object", "properties": given, "additionalProperties": False},
            },
            required=(),
        ),
        Operation("log_likelihood", answers.log_likelihood, {"rows": rows, **drawn}),
    ]
