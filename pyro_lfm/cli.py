"""The command line: what is installed, and where the data are."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version


def main(argv: Sequence[str] | None = None) -> int:
    """``pyro-lfm info`` prints the versions that a bug report needs.

    >>> main(["info"])  # doctest: +ELLIPSIS
    pyro_lfm ...
    """
    parser = argparse.ArgumentParser(prog="pyro-lfm", description="Deep latent factor models on Pyro.")
    parser.add_argument("--version", action="version", version=f"pyro_lfm {version('pyro_lfm')}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="versions of this library and of what it stands on")
    parser.parse_args(argv)
    for name in ("pyro_lfm", "torch", "torchvision", "pyro-ppl", "numpy", "scikit-learn", "matplotlib"):
        try:
            print(f"{name} {version(name)}")
        except PackageNotFoundError:
            print(f"{name} not installed")
    print(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    return 0
