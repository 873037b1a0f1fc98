"""The version of the library, which stands in an identity for the library's own code."""

from importlib.metadata import PackageNotFoundError, version


def library_version() -> str:
    """The version that is installed, or "not installed"."""
    try:
        return version("pyro_lfm")
    except PackageNotFoundError:
        return "not installed"
