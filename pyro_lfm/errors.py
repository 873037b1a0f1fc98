"""The exceptions of the library, and how it warns. A message names the argument, what was expected, what came, a remedy."""

import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

# Pyro appends the shapes of the whole trace to the message of every error inside it.
_DUMP = re.compile(r"\n\s*Trace Shapes:")

# Codes by which a terminal colours a text.
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

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
    >>> first_line(ValueError(chr(27) + "[31mbad shape" + chr(27) + "[0m"))
    'bad shape'
    """
    lines = _COLOURS.sub("", str(error)).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


class _Plain(Exception):
    """An error whose message is kept as it was written when Pyro's handlers append to it."""

    def __init__(self, message: str = ""):
        super().__init__(_DUMP.split(message, maxsplit=1)[0])


class DeclarationError(_Plain, ValueError):
    """A model, a guide or an inference is declared in a way that cannot work. The message gives a remedy.

    >>> import pyro_lfm as lfm
    >>> lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.MLP(8), given="y"))
    Traceback (most recent call last):
    pyro_lfm.errors.DeclarationError: x: given='y' is no factor of this model; it has z, x
    """


class DocumentError(DeclarationError):
    r"""A text or a dict declares something that cannot be read.

    Attributes:
        errors: every fault, as (path, message). A path leads to the place, as in model.x.covariance.

    >>> import pyro_lfm as lfm
    >>> lfm.declare('[model]\nz = "StandardNormal(2)"\nx = "Gausian(3)"')
    Traceback (most recent call last):
    pyro_lfm.errors.DocumentError: model.x | no factor is called 'Gausian'; did you mean Gaussian?
    """

    def __init__(self, errors: Sequence[tuple[str, str]]):
        self.errors = tuple(errors)
        lines = [f"{path} | {fault}" if path else fault for path, fault in self.errors]
        count = f"the declaration has {len(lines)} errors:" if len(lines) > 1 else ""
        super().__init__("\n".join([*filter(None, [count]), *lines]))

    def __reduce__(self) -> tuple[type, tuple[tuple[tuple[str, str], ...]]]:
        return type(self), (self.errors,)


class ShapeError(DeclarationError):
    """A tensor or the output of a network has the wrong shape. The message gives both shapes.

    >>> import pyro_lfm as lfm, torch
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> lfm.fit(model, torch.zeros(20, 4), lfm.EM())
    Traceback (most recent call last):
    pyro_lfm.errors.ShapeError: x must have shape (N, 3); got (20, 4)
    """


class DataError(_Plain, ValueError):
    """The data cannot be used with the declared model.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Bernoulli(2, logits=lfm.Linear()))
    >>> svi = lfm.SVI(lfm.Guide(model, z=lfm.Gaussian(network=lfm.Linear())))
    >>> lfm.fit(model, [[0, 1], [1, 2]], svi)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pyro_lfm.errors.DataError: x must be 0 or 1 (support Boolean); got 2 at row 1, column 1: binarize it, ...
    """


class CheckpointError(DeclarationError, DataError):
    """A checkpoint was made of other arguments or other rows than those of the call. The message names the difference.

    >>> import pyro_lfm as lfm, tempfile, torch
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(2, mean=lfm.Linear()))
    >>> guide, rows = lfm.Guide(model, z=lfm.Gaussian(network=lfm.Linear())), torch.zeros(20, 2)
    >>> with tempfile.TemporaryDirectory() as run:
    ...     for size in (10, 5):
    ...         svi = lfm.SVI(guide, epochs=1, batch_size=size, engine="eager")
    ...         try:
    ...             fit = lfm.fit(model, rows, svi, seed=0, checkpoint=f"{run}/run", progress=False)
    ...         except lfm.CheckpointError as error:
    ...             print(str(error).partition(": ")[2])
    batch_size was 10, now it is 5; name another folder, or remove this one to begin anew
    """


class TrainingError(_Plain, RuntimeError):
    """A fit stopped in a step. The last good weights are restored.

    Losses or gradients of many consecutive steps were not finite, a distribution refused its parameters, or a network
    raised an error, which is then the cause (``__cause__``). Remedies: a smaller ``learning_rate``, scaled data, a larger
    ``min_scale``.

    Attributes:
        epoch: the epoch of the step, or None.
        rows: the numbers of the rows in the batch, or None.
        factor, parameter: the names of the factor and the parameter at fault, or None.

    >>> import pyro_lfm as lfm, torch
    >>> class Root(torch.nn.Module):
    ...     def forward(self, z):
    ...         return z.expand(-1, 2).sqrt()  # NaN for a negative z
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(2, mean=Root()))
    >>> svi = lfm.SVI(lfm.Guide(model, z=lfm.Gaussian(network=lfm.Linear())), max_skipped=0, engine="eager")
    >>> try:
    ...     lfm.fit(model, torch.zeros(20, 2), svi, seed=0, progress=False)
    ... except lfm.TrainingError as error:
    ...     print(error.epoch, error.factor)
    1 x
    """

    epoch: int | None = None
    rows: list[int] | None = None
    factor: str | None = None
    parameter: str | None = None


@contextmanager
def one_call() -> Iterator[None]:
    """A context in which each subject is warned of once, by the first function that notices it.

    >>> with warnings.catch_warnings(record=True) as caught, one_call():
    ...     warnings.simplefilter("always")
    ...     for _ in range(3):
    ...         warn("x is rounded", UserWarning, of="x")
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
    ...     warn("x is rounded", UserWarning)
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
