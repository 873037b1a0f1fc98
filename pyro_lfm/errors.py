"""The exceptions of the library. Each message names the argument, what was expected, what came, the remedy."""

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# What Pyro puts behind the words of every error that passes through a trace.
_DUMP = re.compile(r"\n\s*Trace Shapes:")

# What was warned of since the user called, by category; None where no call is under way.
_WARNED: ContextVar[set[tuple[type[Warning], str]] | None] = ContextVar("warned", default=None)
# Modules whose lines are not the user's: ours, and what stands between two of ours.
_INSIDE = {"pyro_lfm", "contextlib"}


def first_line(error: BaseException) -> str:
    """What an error of another library says, in one line.

    >>> first_line(ValueError("bad shape" + chr(10) + "Trace Shapes: ..."))
    'bad shape'
    """
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


class _Plain(Exception):
    """An error that says its own words alone, whatever handlers it passes through."""

    def __init__(self, message: str = ""):
        super().__init__(_DUMP.split(message, maxsplit=1)[0])


class DeclarationError(_Plain, ValueError):
    """A model, a guide or an inference is declared in a way that cannot work."""


class ShapeError(DeclarationError):
    """A tensor or the output of a network has the wrong shape."""


class DataError(_Plain, ValueError):
    """The data cannot be used with the declared model."""


class CheckpointError(DeclarationError, DataError):
    """A checkpoint was made of other arguments or other rows than those at hand."""


class TrainingError(_Plain, RuntimeError):
    """A fit stopped in a step; the last good weights are back.

    A loss or a gradient was no longer finite, a distribution refused its parameters, or a network raised an error, which is
    then the cause (``__cause__``).

    Attributes:
        epoch, rows: where, as far as it is known; the rows are those of the batch.
        factor, parameter: whose, or None.
    """

    epoch: int | None = None
    rows: list[int] | None = None
    factor: str | None = None
    parameter: str | None = None


class RandomStreamWarning(UserWarning):
    """Another thread has drawn from torch's random stream while a step of a fit was drawing from it."""


class ScheduleWarning(UserWarning):
    """``patience`` cannot count before the objective's schedules have ended."""


class ScaleFloorWarning(UserWarning):
    """A fitted standard deviation sits on its floor ``min_scale``: the likelihood wants to grow without bound."""


class ConvergenceWarning(UserWarning):
    """A fit stopped before it converged: more iterations would raise its bound."""


class PriorWarning(UserWarning):
    """A prior in the units of the data decides what the data should: its numbers do not fit their scale."""


class CompilationWarning(UserWarning):
    """A step that was to be compiled cannot be, and is done in eager: slower, with the same numbers."""


class SeedWarning(UserWarning):
    """First weights cannot be drawn from the seed of a fit, which then does not repeat by its seed alone."""


class PrecisionWarning(UserWarning):
    """Data hold digits that the floating type of the model does not."""


class DataScaleWarning(UserWarning):
    """Data lie far from where the model, or the rows that it was fitted to, lie."""


@contextmanager
def one_call() -> Iterator[None]:
    """Within it a thing is warned of once, by the first of the functions that see it.

    >>> with warnings.catch_warnings(record=True) as caught, one_call():
    ...     warnings.simplefilter("always")
    ...     for _ in range(3):
    ...         warn("x is rounded", PrecisionWarning, of="x")
    >>> len(caught)
    1
    """
    token = None if _WARNED.get() is not None else _WARNED.set(set())
    try:
        yield
    finally:
        if token is not None:
            _WARNED.reset(token)


def warn(message: str, category: type[Warning], of: str | None = None) -> None:
    """A warning that names the line of the user that led to it, however deep in the library it arises.

    Args:
        of: the thing that it is about, which is warned of once in ``one_call``.
    """
    warned = _WARNED.get()
    if warned is not None and of is not None:
        if (category, of) in warned:
            return
        warned.add((category, of))
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _INSIDE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
