"""``main`` runs one command of the command line and turns errors into a line and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

# The exit statuses of a user's mistake and of Ctrl-C.
MISTAKE, INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0, 2 after a user's mistake, 130 after Ctrl-C.

    ``pyro-lfm --help`` lists the commands. It answers without importing torch, and so do ``--version`` and ``info``.

    Args:
        argv: the arguments after the program's name; those of the process by default.

    >>> main(["info"])  # doctest: +ELLIPSIS
    pyro_lfm ...
    """
    try:
        import typer
    except ModuleNotFoundError:
        return _mistake("typer is not installed, which the command line needs: pip install 'pyro_lfm[cli]'")
    from pyro_lfm.cli.commands import program
    from pyro_lfm.errors import DataError, DeclarationError, TrainingError

    try:
        # Typer itself would print errors in several lines, and as tracebacks.
        status = program(None if argv is None else [*argv], prog_name="pyro-lfm", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        return _closed_output()
    except (DeclarationError, DataError, TrainingError, ImportError, OSError) as error:
        return _mistake(str(error))
    except _usage_errors(typer.BadParameter) as error:
        words = error.format_message().replace("Value error, ", "")  # type: ignore[attr-defined]
        return _mistake(f"{words.rstrip('.')}: see pyro-lfm --help")


def _usage_errors(kind: type[Exception]) -> type[Exception]:
    """The base class of typer's errors about arguments, which is click's or its own, by version."""
    return next(base for base in reversed(kind.__mro__) if hasattr(base, "format_message"))


def _mistake(message: str) -> int:
    """Prints a message in one line on stderr."""
    print(f"pyro-lfm: {' '.join(message.split())}", file=sys.stderr)
    return MISTAKE


def _closed_output() -> int:
    """Ends in silence when the reader of stdout, such as ``head``, has read enough."""
    # The interpreter flushes stdout once more at its end, and would print the error.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
