"""The version of the library, whose own code no identity looks at."""

from importlib.metadata import PackageNotFoundError, version


def library_version() -> str:
    try:
        return version("pyro_lfm")
    except PackageNotFoundError:
        return "not installed"
