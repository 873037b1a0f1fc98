"""``SameOrigin``: refuses requests that come from other sites, and sets the headers that keep the page to itself."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Scripts, styles and data come from this server alone; a notebook of this machine may show the page in a frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self' http://localhost:* http://127.0.0.1:*"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# Bytes of all headers of a request; a browser sends some hundred.
_HEADERS = 2**14
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
# The name or address of a Host header, and its port.
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]{2,45}\]|[a-z0-9_]([a-z0-9_.-]{0,252}))(:(?P<port>[0-9]{1,5}))?")
_EVERYWHERE = ("0.0.0.0", "::")


class SameOrigin:
    """An ASGI application before another one, which sees only requests of the page itself.

    A page of another site may send requests to this machine, and by a domain of its own that points to 127.0.0.1 may even
    read the answers. So the Host header must name this machine, and an Origin, which browsers send with requests that a
    script makes, must be that of the page.

    Args:
        application: the one behind it.
        host: the address that the server listens at; "0.0.0.0" and "::" admit every address, and the name of this machine.

    >>> guarded = SameOrigin(None, "127.0.0.1")
    >>> guarded.fault("GET", "/", {"host": ["evil.example"]})
    (403, 'the Host header must name localhost, 127.0.0.1 or [::1]')
    """

    def __init__(self, application: ASGIApp, host: str):
        self.application = application
        name = f"[{host}]" if ":" in host else host.lower()
        self.everywhere = host in _EVERYWHERE
        named = socket.gethostname().lower() if self.everywhere else name
        self.names = tuple(dict.fromkeys((*_LOOPBACK, named)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.application(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers: dict[str, list[str]] = {}
        for key, value in scope["headers"]:
            headers.setdefault(key.decode("latin-1").lower(), []).append(value.decode("latin-1"))

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(key.lower().encode(), value.encode()) for key, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        fault = _fault_of_form(scope) or self.fault(scope["method"], scope["path"], headers)
        if fault is None:
            await self.application(scope, receive, with_headers)
            return
        status, words = fault
        body = json.dumps({"error": words}).encode()
        described = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await with_headers({"type": "http.response.start", "status": status, "headers": described})
        await with_headers({"type": "http.response.body", "body": body})

    def fault(self, method: str, path: str, headers: dict[str, list[str]]) -> tuple[int, str] | None:
        """The status and the words with which a request is refused; None where it is not.

        Args:
            headers: {name in lower case: its values}.
        """
        hosts = headers.get("host", [])
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            *names, last = self.names
            return 403, f"the Host header must name {', '.join(names)} or {last}"
        origins = headers.get("origin", [])
        if origins and (len(origins) > 1 or origins[0].lower() != f"http://{hosts[0].lower()}"):
            return 403, f"the Origin header must be http://{hosts[0]}, the page itself"
        # A link from another site may open the page. Nothing else is asked from elsewhere.
        site = headers.get("sec-fetch-site", ["none"])[0]
        if site not in ("same-origin", "none") and path != "/":
            return 403, "requests from other sites are refused"
        if "upgrade" in headers:
            return 400, "the explorer speaks HTTP alone: no upgrade of the connection"
        kind = headers.get("content-type", [""])[0].partition(";")[0].strip().lower()
        if method == "POST" and kind != "application/json":
            return 415, "the body must be JSON, sent with Content-Type: application/json"
        return None

    def _is_ours(self, host: str) -> bool:
        match = _HOST.fullmatch(host.lower())
        if match is None or int(match["port"] or 0) > 65535:
            return False
        name = match["name"]
        return name in self.names or (self.everywhere and _is_address(name.strip("[]")))


def _fault_of_form(scope: Scope) -> tuple[int, str] | None:
    """The status and the words with which a request of a wrong form is refused."""
    if scope["http_version"] not in ("1.0", "1.1"):
        return 400, "the explorer speaks HTTP/1.1"
    if sum(len(key) + len(value) for key, value in scope["headers"]) > _HEADERS:
        return 431, f"the headers of a request must have at most {_HEADERS} bytes together"
    return None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
