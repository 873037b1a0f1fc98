"""The exceptions of the library. Each message names the argument, what was expected, what came, the remedy."""


class DeclarationError(ValueError):
    """A model, a guide or an inference is declared in a way that cannot work."""


class ShapeError(DeclarationError):
    """A tensor or the output of a network has the wrong shape."""


class DataError(ValueError):
    """The data cannot be used with the declared model."""


class CheckpointError(DeclarationError, DataError):
    """A checkpoint was made of other arguments or other rows than those at hand."""


class TrainingError(RuntimeError):
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


class CompilationWarning(UserWarning):
    """A step that was to be compiled cannot be, and is done in eager: slower, with the same numbers."""
