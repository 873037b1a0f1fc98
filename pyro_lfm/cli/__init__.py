"""The command line ``pyro-lfm``: one file for each command, and ``main``, which runs one of them."""

from pyro_lfm.cli.entry_point import main

__all__ = ["main"]
