"""``answered``: the answer to a body as bytes; ``in_words``: errors of the library as refusals. Servers answer by them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from pyro_lfm.errors import DataError, DeclarationError, TrainingError, first_line, gathering
from pyro_lfm.web.json_requests import Request, parsed
from pyro_lfm.web.refusal import Json, Refusal

Answer = TypeVar("Answer")
# Requests that a server answers at once. The model answers one at a time; meanwhile others are read and written.
THREADS = 4
_OVERFLOW = (
    "the model cannot compute with these rows or points, since its distributions have no finite parameters there: give ones "
    "like those that were fitted, and null where a number stands for a missing one"
)


def answered(
    path: str,
    fields: Sequence[str],
    answer: Callable[[Request], dict[str, Json]],
    body: bytes,
    log: logging.Logger,
) -> bytes:
    """The answer to a body, as JSON; warnings of the library stand in its field "warnings".

    Args:
        path: of the request, for messages.
        fields: the names that a request may have.
        answer: gives the fields of an answer for those of a request.
        log: takes what a client is not told.

    Raises:
        Refusal: a request that the model cannot serve, with the library's message.
    """

    def fields_of_answer() -> dict[str, Json]:
        with gathering() as warnings:
            given = answer(parsed(body, fields))
        return {**given, "warnings": [*warnings]} if warnings else given

    return json.dumps(in_words(path, fields_of_answer, log), allow_nan=False).encode()


def in_words(path: str, answer: Callable[[], Answer], log: logging.Logger) -> Answer:
    """The answer to a request, whatever it is. Errors of the library become refusals with its message.

    Raises:
        Refusal: as for ``answered``.
    """
    try:
        return answer()
    except (DataError, DeclarationError, TrainingError) as error:
        raise Refusal(" ".join(str(error).split())) from None
    except NotImplementedError:
        raise Refusal(f"the model has no answer to {path}: a distribution has no formula for it") from None
    except (ValueError, RuntimeError, ArithmeticError) as error:
        # A distribution refuses its parameters or a matrix is not positive definite: numbers have overflowed.
        log.warning("%s refused: %s: %s", path, type(error).__name__, first_line(error))
        log.debug("the error behind it", exc_info=True)
        raise Refusal(_OVERFLOW) from None
