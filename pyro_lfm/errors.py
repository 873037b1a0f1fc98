"""The exceptions and warnings of the library. A message names the argument, what was expected, what came and a remedy."""

import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

# Pyro appends the shapes of the whole trace to the message of every error inside it.
_DUMP = re.compile(r"\n\s*Trace Shapes:")

# The warnings of the present call, by category and subject; None outside ``one_call``.
_WARNED: ContextVar[set[tuple[type[Warning], str]] | None] = ContextVar("warned", default=None)
# The list that takes the warnings of this thread; None outside ``gathering``.
_GATHERED: ContextVar[list[str] | None] = ContextVar("gathered", default=None)
# Modules that a warning does not point to: the library's, and those called between two of them.
_INSIDE = {"pyro_lfm", "contextlib"}


def first_line(error: BaseException) -> str:
    """The message of an error of another library, in one line.

    >>> first_line(ValueError("bad shape" + chr(10) + "Trace Shapes: ..."))
    'bad shape'
    """
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


class _Plain(Exception):
    """An error whose message is kept as it was written when Pyro's handlers append to it."""

    def __init__(self, message: str = ""):
        super().__init__(_DUMP.split(message, maxsplit=1)[0])


class DeclarationError(_Plain, ValueError):
    """A model, a guide or an inference is declared in a way that cannot work."""


class DocumentError(DeclarationError):
    """A text or a dict declares something that cannot be read.

    Attributes:
        errors: every fault, as (path, message). A path leads to the place, as in model.x.covariance.
    """

    def __init__(self, errors: Sequence[tuple[str, str]]):
        self.errors = tuple(errors)
        lines = [f"{path} | {fault}" if path else fault for path, fault in self.errors]
        count = f"the declaration has {len(lines)} errors:" if len(lines) > 1 else ""
        super().__init__("\n".join([*filter(None, [count]), *lines]))

    def __reduce__(self) -> tuple[type, tuple[tuple[tuple[str, str], ...]]]:
        return type(self), (self.errors,)


class ShapeError(DeclarationError):
    """A tensor or the output of a network has the wrong shape."""


class DataError(_Plain, ValueError):
    """The data cannot be used with the declared model."""


class CheckpointError(DeclarationError, DataError):
    """A checkpoint was made of other arguments or other rows than those at hand."""


class TrainingError(_Plain, RuntimeError):
    """A fit stopped in a step; the last good weights are restored.

    Losses or gradients of many consecutive steps were not finite, a distribution refused its parameters, or a network
    raised an error, which is then the cause (``__cause__``).

    Attributes:
        epoch: the epoch of the step, or None.
        rows: the numbers of the rows in the batch, or None.
        factor, parameter: the names of the factor and the parameter at fault, or None.
    """

    epoch: int | None = None
    rows: list[int] | None = None
    factor: str | None = None
    parameter: str | None = None


class SkippedStepWarning(UserWarning):
    """A step was skipped, since its loss or a gradient was not finite: it moved nothing, and ``fit.skipped`` counts it."""


class RandomStreamWarning(UserWarning):
    """Another thread has drawn from torch's random stream during a step of a fit."""


class RowOrderWarning(UserWarning):
    """The rows of a file are sorted, and are not mixed well by shuffling the blocks that are in memory together."""


class ScheduleWarning(UserWarning):
    """``patience`` cannot count before the objective's schedules have ended."""


class ScaleFloorWarning(UserWarning):
    """A fitted standard deviation has reached its floor ``min_scale``: without it the likelihood would be unbounded."""


class IdentificationWarning(UserWarning):
    """Other values of the parameters have the same likelihood, so that the fitted ones say nothing by themselves."""


class ConvergenceWarning(UserWarning):
    """A fit stopped before it converged: more iterations would raise its bound."""


class EmptyColumnWarning(UserWarning):
    """A column of a table has no cell that is not missing, and is left out."""


class PriorWarning(UserWarning):
    """A prior outweighs the data, since its numbers do not fit the scale of the data."""


class CompilationWarning(UserWarning):
    """A step cannot be compiled, and runs in eager mode: slower, with the same numbers."""


class SeedWarning(UserWarning):
    """First weights cannot be drawn from the seed of a fit, so that the seed alone does not repeat the fit."""


class PrecisionWarning(UserWarning):
    """Data have more digits than the floating type of the model."""


class DataScaleWarning(UserWarning):
    """Data lie far from the model, or from the rows that it was fitted to."""


class AttributeWarning(UserWarning):
    """Rows with asked attributes go beyond what the data know, or do not have them."""


class EmptyCountsWarning(UserWarning):
    """Cells or genes of an AnnData have no counts at all, so that nothing is learned of them."""


@contextmanager
def one_call() -> Iterator[None]:
    """A context in which each subject is warned of once, by the first function that notices it.

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


@contextmanager
def gathering() -> Iterator[list[str]]:
    """A context that gives the texts of the library's warnings as a list, in place of Python's ``warnings``.

    Only warnings of this thread are gathered; ``warnings.catch_warnings`` would take those of all threads.

    >>> with gathering() as texts:
    ...     warn("x is rounded", PrecisionWarning)
    >>> texts
    ['x is rounded']
    """
    texts: list[str] = []
    token = _GATHERED.set(texts)
    try:
        yield texts
    finally:
        _GATHERED.reset(token)


def warn(message: str, category: type[Warning], of: str | None = None) -> None:
    """Warns, with the line of the user's code that led to it, however deep in the library.

    Args:
        of: the subject, which is warned of once within ``one_call``.
    """
    warned = _WARNED.get()
    if warned is not None and of is not None:
        if (category, of) in warned:
            return
        warned.add((category, of))
    gathered = _GATHERED.get()
    if gathered is not None:
        gathered.append(message)
        return
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _INSIDE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
