"""``Checkpoint``, the argument of ``lfm.fit`` that says where the state of a fit is kept, and how often it is written."""

from __future__ import annotations

import os
from pathlib import Path

from pyro_lfm.declarations import Part
from pyro_lfm.errors import DeclarationError
from pyro_lfm.shapes import number, whole


class Checkpoint(Part):
    """Keeps the state of a fit in a folder, from which an interrupted fit goes on bit for bit.

    ``lfm.fit(..., checkpoint="run/")`` means ``lfm.Checkpoint("run/")``. A write costs some flushes to the disk and a pass
    over all weights and moments, so that a fit of short epochs is better written by time. When the training ends, also by a
    signal, the folder is written once more.

    Args:
        path: the folder, which is made if need be.
        epochs: write after every so many epochs, by default after each. None writes by time alone.
        seconds: write when so many seconds have passed since the last write, inside an epoch too.

    Raises:
        DeclarationError: an argument out of its range.

    >>> import pyro_lfm as lfm
    >>> lfm.Checkpoint("run/", epochs=None, seconds=60)
    Checkpoint("run/", epochs=None, seconds=60)
    """

    def __init__(self, path: str | os.PathLike[str], epochs: int | None = 1, seconds: float | None = None):
        if not isinstance(path, str | os.PathLike):
            raise DeclarationError(
                f'checkpoint must be the path of a folder, or lfm.Checkpoint("run/", ...); got {path!r}'
            )
        self.path = Path(path)
        self.epochs = None if epochs is None else whole("epochs", epochs)
        self.seconds = None if seconds is None else number("seconds", seconds, least=0.0)
        if epochs is None and seconds is None:
            raise DeclarationError(
                "a checkpoint must be written at some time: give epochs or seconds, or both"
            )
        if not os.fspath(path):
            raise DeclarationError("checkpoint must be the path of a folder; got an empty string")

    @classmethod
    def of(cls, checkpoint: Checkpoint | str | os.PathLike[str] | None) -> Checkpoint | None:
        """The argument ``checkpoint`` of ``lfm.fit``, where a path stands for one that is written after every epoch."""
        if checkpoint is None or isinstance(checkpoint, Checkpoint):
            return checkpoint
        return cls(checkpoint)
