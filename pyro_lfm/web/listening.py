"""A socket at an address of this machine, or an error in words, and its URL; for ``serving`` and ``explorer``."""

from __future__ import annotations

import socket

from pyro_lfm.errors import DeclarationError
from pyro_lfm.shapes import whole


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens at an address.

    Args:
        host: an address of this machine, such as 127.0.0.1, localhost or ::1.
        port: 0 for any that is free.

    Raises:
        DeclarationError: the address is none of this machine's, or in use.

    >>> with listening("127.0.0.1", 0) as free:
    ...     free.getsockname()[0]
    '127.0.0.1'
    """
    if whole("port", port, least=0) > 65535:
        raise DeclarationError(f"port must be at most 65535; got {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except (OSError, UnicodeError, TypeError) as error:
        words = str(getattr(error, "strerror", None) or "no address").partition(" (")[0]
        another = 8002 if port == 8001 else 8001
        raise DeclarationError(
            f"host and port must be an address that is free here; got {host!r} and {port} ({words.lower()}): another port, "
            f"such as {another}, or 0 for any that is free"
        ) from None
    # An answer goes out in two pieces, of which the second would wait 40 ms for a reply to the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def address_of(host: str, listener: socket.socket) -> str:
    """The URL of a socket that listens at a host, by a name that a browser of this machine can open.

    >>> with listening("0.0.0.0", 0) as free:
    ...     address_of("0.0.0.0", free).startswith("http://127.0.0.1:")
    True
    """
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{listener.getsockname()[1]}/"
