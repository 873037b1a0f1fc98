"""``Limits``: the sizes that one request to a service may have."""

from __future__ import annotations

from dataclasses import dataclass, fields

from pyro_lfm.shapes import whole


@dataclass(frozen=True)
class Limits:
    """The largest request that a service takes. A larger one is refused before it costs memory or time.

    Args:
        body: bytes of a request. They are counted as they arrive.
        bodies: bytes that all requests may hold together while they arrive.
        rows: rows of a request, and rows that ``/sample`` draws.
        draws: draws for each row.
        drawn: numbers that all draws of a request may have together: rows × draws × entries of a row.
        answer: numbers of an answer.

    Raises:
        DeclarationError: a limit that is no positive int.

    >>> Limits(rows=100).rows
    100
    """

    body: int = 2**24
    bodies: int = 2**26
    rows: int = 10_000
    draws: int = 10_000
    drawn: int = 2**25
    answer: int = 2**22

    def __post_init__(self) -> None:
        for field in fields(self):
            whole(field.name, getattr(self, field.name))
