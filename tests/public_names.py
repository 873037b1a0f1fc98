"""Every public name of the library, found by walking its namespaces: for the tests of its catalogue and its reference."""

import inspect
from types import ModuleType

import pyro_lfm as lfm


def namespaces(module=lfm, path="lfm"):
    """The library and the namespaces that it exports, ``{"lfm": ..., "lfm.evaluate": ...}``, with those within them."""
    yield path, module
    for name in module.__all__:
        part = getattr(module, name)
        if isinstance(part, ModuleType):
            yield from namespaces(part, f"{path}.{name}")


def public_names():
    """What each namespace exports, ``{"lfm.Gaussian": ..., "lfm.data.digits": ...}``, namespaces themselves left out."""
    return {
        f"{path}.{name}": getattr(module, name)
        for path, module in namespaces()
        for name in module.__all__
        if not isinstance(getattr(module, name), ModuleType)
    }


def is_error(value):
    """Whether it is an exception or a warning."""
    return inspect.isclass(value) and issubclass(value, Exception)
