"""The command line ``pyro-lfm``. It answers ``--help``, ``--version`` and ``info`` without importing torch."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("pyro_lfm", "torch", "torchvision", "pyro-ppl", "numpy", "scikit-learn", "matplotlib")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    ``pyro-lfm info`` prints the versions that a bug report needs. They are read from the installed packages' metadata.

    Args:
        argv: the arguments after the program's name; those of the process by default.

    Raises:
        SystemExit: after ``--help`` and ``--version``, and with status 2 for a mistake in the arguments.

    >>> main(["info"])  # doctest: +ELLIPSIS
    pyro_lfm ...
    """
    parser = argparse.ArgumentParser(prog="pyro-lfm", description="Deep latent factor models on Pyro.")
    parser.add_argument("--version", action="version", version=f"pyro_lfm {version('pyro_lfm')}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="print the versions of this library and of the packages it needs")
    parser.parse_args(argv)
    for name in PACKAGES:
        try:
            print(f"{name} {version(name)}")
        except PackageNotFoundError:
            print(f"{name} not installed")
    print(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    return 0
