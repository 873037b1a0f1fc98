"""``Explorer``: a page that is served from a thread of its own until it is closed; ``explore`` returns it."""

from __future__ import annotations

import html
import socket
import threading
import time
from typing import TYPE_CHECKING

from pyro_lfm.errors import DataError

if TYPE_CHECKING:
    import uvicorn

# Seconds in which a server must start, and in which it must end.
_START, _END = 30.0, 10.0
# The height of the frame of a notebook, in pixels.
_HEIGHT = 760


class Explorer:
    """A page that shows a fit, and its server. A notebook shows it in a frame.

    >>> import torch, pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> fit = lfm.fit(model, torch.randn(40, 3), lfm.EM(), seed=0, progress=False)
    >>> with lfm.explore(fit, port=0, block=False) as explorer:
    ...     explorer.url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(self, server: uvicorn.Server, listener: socket.socket, url: str):
        self.url = url
        self._server, self._listener = server, listener
        self._thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="pyro_lfm.explorer", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + _START
        while not server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.close()
                raise DataError(f"the explorer could not be served at {url}")
            time.sleep(0.005)

    @property
    def is_open(self) -> bool:
        """Whether the page is served."""
        return self._thread.is_alive()

    def wait(self) -> None:
        """Waits until the explorer is closed, by ``close`` in another thread or by Ctrl-C, which closes it.

        Raises:
            KeyboardInterrupt: Ctrl-C.
        """
        try:
            while self._thread.is_alive():
                self._thread.join(0.2)
        finally:
            self.close()

    def close(self) -> None:
        """Ends the server. Closing twice does no harm."""
        self._server.should_exit = True
        self._thread.join(_END)
        self._server.force_exit = self._thread.is_alive()
        self._listener.close()

    def __enter__(self) -> Explorer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Explorer({self.url}{'' if self.is_open else ', closed'})"

    def _repr_html_(self) -> str:
        """The page in a frame, for notebooks on this machine."""
        if not self.is_open:
            return f"<p>{html.escape(repr(self))}</p>"
        url = html.escape(self.url, quote=True)
        return (
            f'<iframe src="{url}" title="Explorer" width="100%" height="{_HEIGHT}" style="border: 0"></iframe>'
            f'<p><a href="{url}" target="_blank" rel="noopener">{url}</a></p>'
        )
