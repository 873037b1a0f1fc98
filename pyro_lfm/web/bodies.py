"""``Bodies``: reads the body of a request as it arrives, and refuses one that is too large before it is in memory."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pyro_lfm.web.limits import Limits
from pyro_lfm.web.refusal import Refusal

if TYPE_CHECKING:
    from starlette.requests import Request


class Bodies:
    """The bodies that arrive at a service, whose bytes are counted, each on its own and all together.

    Args:
        limits: ``body`` and ``bodies``.
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self._held = 0
        self._lock = threading.Lock()

    async def read(self, request: Request) -> bytes:
        """The body of a request.

        Raises:
            Refusal: a body of more bytes than ``limits.body`` (413), too many bodies at once (429), or one that ends
                before its time (400). The server discards bytes that arrive after the answer.
        """
        from starlette.requests import ClientDisconnect

        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > self.limits.body:
            raise self._too_large()
        chunks: list[bytes] = []
        size = 0
        try:
            async for chunk in request.stream():
                if size + len(chunk) > self.limits.body:
                    raise self._too_large()
                self._hold(len(chunk))
                size += len(chunk)
                chunks.append(chunk)
            return b"".join(chunks)
        except ClientDisconnect:
            raise Refusal("the request ended before its body", 400) from None
        finally:
            self._hold(-size)

    def _hold(self, size: int) -> None:
        """Counts bytes that have come, or that are no longer held.

        Raises:
            Refusal: all bodies together would have too many.
        """
        with self._lock:
            if size > 0 and self._held + size > self.limits.bodies:
                raise Refusal("the service has too many requests at once: send it again later", 429)
            self._held += size

    def _too_large(self) -> Refusal:
        return Refusal(f"a request must have at most {self.limits.body} bytes: send the rows in parts", 413)
