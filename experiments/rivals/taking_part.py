"""The contestant's side of a contest: trains on request, and reports time, memory and bound of every epoch.

Every contestant imports it, in whichever environment it runs, so it needs NumPy alone. ``contest.py`` is the other side.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import TextIO

import numpy as np

from rivals.configuration import Configuration

TICK = os.sysconf("SC_CLK_TCK")


def peak_memory() -> int:
    """Peak memory of this process in bytes. On Linux ru_maxrss would start at that of the parent."""
    if (status := Path("/proc/self/status")).exists():
        return 1024 * int(status.read_text().partition("VmHWM:")[2].split()[0])
    return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def processor_seconds() -> float:
    """User and system time of this process and of those that it has started, such as a compiler's.

    Children that have ended are in the figures of the system; those that live are read from /proc, where there is one.
    """
    living = sum(map(_of_process, _children("self")))
    ended = getrusage(RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime + living


def _children(process: str) -> list[str]:
    try:
        return [
            child
            for path in Path(f"/proc/{process}/task").glob("*/children")
            for child in path.read_text().split()
        ]
    except OSError:  # it, or one of its threads, has just ended
        return []


def _of_process(process: str) -> float:
    """Its time, that of its children that have ended, and that of those that live."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICK + sum(map(_of_process, _children(process)))


class Turn:
    """What a contestant calls after each epoch: reports it, waits for the next request, and returns whether there is none.

    The time of an epoch is that from its request to the report, with all that the program does in between.
    """

    def __init__(self, epochs: int, out: TextIO):
        self.left, self.out = epochs, out
        self.began = self.epoch_began = self._now()

    def __call__(self, bound: float | None = None, seconds: float | None = None) -> bool:
        """Ends an epoch.

        Args:
            bound: the mean training bound of the epoch, in nats per row, where the program knows it.
            seconds: in place of those since the request, where only a part of the epoch counts.
        """
        wall, processor = self._since(self.epoch_began)
        self._send(seconds=wall if seconds is None else seconds, processor=processor, bound=bound)
        self.left -= 1
        over = not self.left or not sys.stdin.readline()
        self.epoch_began = self._now()
        return over

    def end(self) -> None:
        """Reports the whole fit, once the program has returned."""
        wall, processor = self._since(self.began)
        self._send(fit_seconds=wall, fit_processor=processor)

    def _send(self, **numbers: float | None) -> None:
        print(json.dumps({**numbers, "memory": peak_memory()}), file=self.out, flush=True)

    @staticmethod
    def _now() -> tuple[float, float]:
        processor = processor_seconds()
        return time.perf_counter(), processor

    def _since(self, then: tuple[float, float]) -> tuple[float, float]:
        wall = time.perf_counter()
        return wall - then[0], processor_seconds() - then[1]


Train = Callable[[Configuration, np.ndarray, Turn], None]


def take_part(contestants: Mapping[str, Train], name: str, configuration: str, data: str) -> None:
    """One contestant, in this process: as many fits as the configuration says, each begun on request."""
    c = Configuration.read(configuration)
    x = np.load(data).reshape(-1, *c.event)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no report
    for _ in range(c.fits):
        if not sys.stdin.readline():
            return
        turn = Turn(c.epochs, out)
        contestants[name](c, x, turn)
        turn.end()
