"""``Signals``: the first SIGINT or SIGTERM ends a training after the present step, for the training loop."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self


class Signals:
    """The context of a training that SIGINT (Ctrl-C) and SIGTERM end in good order.

    The first signal is kept in ``received``, for the loop to look at. A SIGINT after it raises KeyboardInterrupt at once.
    In another thread than the main one, where Python takes no signals, and for a signal that the process ignores, nothing
    changes. At the end the handlers from before are put back.

    Args:
        shared: whether several processes train together. Then a signal counts only when all of them know of it.

    Attributes:
        received: "SIGINT", "SIGTERM", or None.
        pending: the signal that this process has got, whether the others know of it or not.
    """

    def __init__(self, shared: bool = False) -> None:
        self.shared = shared
        self.received: str | None = None
        self.pending: str | None = None
        self._before: dict[int, Callable[[int, FrameType | None], Any] | int] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.getsignal(number)
                # None is a handler of other code than Python's, which could not be put back.
                if before is not None and before is not signal.SIG_IGN:
                    self._before[number] = before
                    signal.signal(number, self._receive)
        return self

    def __exit__(self, *error: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
            # A fit inside a callback of another fit ends that one too.
            outer = getattr(before, "__self__", None)
            if isinstance(outer, Signals):
                outer.pending = outer.pending or self.pending
                if not outer.shared:
                    outer.received = outer.pending

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.pending is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.pending = self.pending or signal.Signals(number).name
        if not self.shared:
            self.received = self.pending


def report_interruption(received: str, where: str, folder: str | None) -> None:
    """Prints one line that says where a fit has stopped, and how to go on.

    Args:
        where: the place, such as "in epoch 3, after 210 of 1000 steps".
        folder: the folder of the checkpoint, if there is one.
    """
    if folder is None:
        way = (
            "without checkpoint= its state is not kept, and fitting its model again goes on from its weights"
        )
    else:
        way = f"its state is in {folder}: the same call of lfm.fit goes on from there"
    if sys.stderr is not None:
        print(f"pyro_lfm: {received} ended the fit {where}; {way}", file=sys.stderr, flush=True)
