"""``TrainingLog``: a line a minute about a training, in a file, and on stderr where that is no terminal."""

from __future__ import annotations

import math
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

# Seconds between two lines.
_EVERY = 60.0


class TrainingLog:
    """A callback of ``lfm.fit`` and the context of one call.

    Args:
        path: the file, to which lines are added.
        whole: how much there is to do, in words, such as "of 20".
        every: seconds between two lines.
    """

    def __init__(self, path: Path, whole: str, every: float = _EVERY):
        self.path, self.whole, self.every = path, whole, every
        self.record: dict[str, Any] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write_often, daemon=True)
        self._began = time.monotonic()

    def __call__(self, record: dict[str, Any], fit: object) -> None:
        self.record = record

    def __enter__(self) -> Self:
        self.write(f"begins, {self.whole}")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, place: object) -> None:
        self._ended.set()
        self._thread.join()
        if error is None:
            self.write(f"ends, {self._progress()}")
        else:
            # The command says on stderr what has failed.
            why = " ".join(str(error).split()) or type(error).__name__
            self.write(f"fails, {self._progress()}: {why}", on_stderr=False)

    def write(self, line: str, on_stderr: bool = True) -> None:
        """Adds a line, with the time before it."""
        text = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}"
        with open(self.path, "a", encoding="utf-8") as file:
            print(text, file=file)
        if on_stderr and not sys.stderr.isatty():
            print(text, file=sys.stderr, flush=True)

    def _write_often(self) -> None:
        while not self._ended.wait(self.every):
            self.write(self._progress())

    def _progress(self) -> str:
        seconds = time.monotonic() - self._began
        if self.record is None:
            return f"no epoch is done after {seconds:.0f} s"
        words = [f"epoch {self.record.get('epoch', '?')}"]
        for name, value in (("bound", "bound"), ("validation", "validation_bound")):
            number = self.record.get(value)
            if isinstance(number, float) and math.isfinite(number):
                words.append(f"{name} {number:.4g} nats per row")
        return f"{', '.join(words)}, {seconds:.0f} s"
