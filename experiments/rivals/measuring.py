"""Time and memory of one call, in any environment: used by everything that runs in a process of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")


def anonymous_memory() -> int:
    """Memory of this process that belongs to no file, in bytes (RssAnon); 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    return 1024 * int(status.read_text().partition("RssAnon:")[2].split()[0])


class PeakMemory:
    """The largest anonymous memory between two moments, read every 5 ms by a thread, above that at the start, in bytes."""

    def __enter__(self) -> PeakMemory:
        self.before = self.peak = anonymous_memory()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._ended.wait(0.005):
            self.peak = max(self.peak, anonymous_memory())

    def __exit__(self, *_: object) -> None:
        self.peak = max(self.peak, anonymous_memory())
        self._ended.set()
        self._thread.join()

    @property
    def above(self) -> int:
        return self.peak - self.before


def measured(call: Callable[[], Result]) -> tuple[Result, dict[str, float]]:
    """The result of a call, and what it took: seconds, processor seconds of all threads, and bytes."""
    with PeakMemory() as memory:
        wall, processor = time.perf_counter(), time.process_time()
        result = call()
        taken = {"seconds": time.perf_counter() - wall, "processor": time.process_time() - processor}
    return result, {**taken, "memory": memory.above}
