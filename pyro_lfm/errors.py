"""The exceptions of the library. Each message names the argument, what was expected, what came, the remedy."""


class DeclarationError(ValueError):
    """A model, a guide or an inference is declared in a way that cannot work."""


class ShapeError(DeclarationError):
    """A tensor or the output of a network has the wrong shape."""


class DataError(ValueError):
    """The data cannot be used with the declared model."""


class TrainingError(RuntimeError):
    """A fit stopped because its loss or a gradient was no longer finite; the last good weights are back."""


class ScaleFloorWarning(UserWarning):
    """A fitted standard deviation sits on its floor ``min_scale``: the likelihood wants to grow without bound."""


class ConvergenceWarning(UserWarning):
    """A fit stopped before it converged: more iterations would raise its bound."""


class PriorWarning(UserWarning):
    """A prior in the units of the data decides what the data should: its numbers do not fit their scale."""


class CompilationWarning(UserWarning):
    """A step that was to be compiled cannot be, and is done in eager: slower, with the same numbers."""
