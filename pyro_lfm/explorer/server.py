"""``Server``: an application that is served from a thread of its own until it is closed."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pyro_lfm.errors import DataError
from pyro_lfm.web.answering import THREADS

if TYPE_CHECKING:
    from starlette.types import ASGIApp

# Seconds in which a server must start, and in which it must end.
_START, _END = 30.0, 10.0


class Server:
    """Serves an application on a socket that listens, from a daemon thread.

    Args:
        application: gives the application, for the threads in which it computes.
        listener: the socket, which is closed in the end.

    Raises:
        DataError: it did not start.
    """

    def __init__(self, application: Callable[[ThreadPoolExecutor], ASGIApp], listener: socket.socket):
        import uvicorn

        self._listener = listener
        self._workers = ThreadPoolExecutor(THREADS, "pyro_lfm.explorer")
        # Of the parsers of HTTP that uvicorn knows h11 is the one that limits headers.
        config = uvicorn.Config(
            application(self._workers),
            http="h11",
            ws="none",
            log_config=None,
            log_level="error",
            access_log=False,
            lifespan="off",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="pyro_lfm.explorer", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + _START
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.close()
                raise DataError("the explorer could not be served: the log of uvicorn says why")
            time.sleep(0.005)

    @property
    def is_open(self) -> bool:
        return self._thread.is_alive()

    def wait(self) -> None:
        """Waits until it is closed; an exception such as Ctrl-C closes it."""
        try:
            while self._thread.is_alive():
                self._thread.join(0.2)
        finally:
            self.close()

    def close(self) -> None:
        """Ends the thread. Closing twice does no harm."""
        self._server.should_exit = True
        self._thread.join(_END)
        self._server.force_exit = self._thread.is_alive()
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._listener.close()
