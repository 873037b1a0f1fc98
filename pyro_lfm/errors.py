"""The exceptions of the library. Each message names the argument, what was expected and what came."""


class DeclarationError(ValueError):
    """A model or guide is declared in a way that cannot be wired."""


class ShapeError(DeclarationError):
    """A tensor or a network has the wrong shape."""


class DataError(ValueError):
    """The data cannot be used with the declared model."""


class TrainingError(RuntimeError):
    """A fit stopped because its loss was no longer finite."""
