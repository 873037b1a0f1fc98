"""``Explorer``: the page that ``explore`` serves, as its caller holds it."""

from __future__ import annotations

import html

from pyro_lfm.explorer.server import Server

# The height of the frame of a notebook, in pixels.
_HEIGHT = 760


class Explorer:
    """A page that shows a fit and is served until it is closed. A notebook shows it in a frame.

    Args:
        url: its address.
        server: that serves it.
        rows: how many rows it shows.
        seconds: how long it took to encode them.

    >>> import torch, pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> fit = lfm.fit(model, torch.randn(40, 3), lfm.EM(), seed=0, progress=False)
    >>> with lfm.explore(fit, port=0, block=False) as explorer:
    ...     explorer.url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(self, url: str, server: Server, rows: int, seconds: float):
        self.url, self._server, self.rows, self.seconds = url, server, rows, seconds

    @property
    def is_open(self) -> bool:
        """Whether the page is served."""
        return self._server.is_open

    def wait(self) -> None:
        """Waits until the explorer is closed, by ``close`` in another thread or by Ctrl-C, which closes it.

        Raises:
            KeyboardInterrupt: Ctrl-C.
        """
        self._server.wait()

    def close(self) -> None:
        """Ends the server. Closing twice does no harm."""
        self._server.close()

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
