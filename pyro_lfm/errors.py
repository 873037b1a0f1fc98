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


class CompilationWarning(UserWarning):
    """A step that was to be compiled cannot be, and is done in eager: slower, with the same numbers."""


class PrecisionWarning(UserWarning):
    """Data hold digits that the floating type of the model does not."""


class DataScaleWarning(UserWarning):
    """Data lie far from where the model, or the rows that it was fitted to, lie."""
