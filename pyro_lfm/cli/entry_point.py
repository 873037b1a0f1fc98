"""``main`` runs one command of the command line and turns errors into a line and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# The exit statuses of a run that failed, of a user's mistake and of Ctrl-C.
FAILURE, MISTAKE, INTERRUPTED = 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0, 1 after a run that failed, 2 after a mistake, 130 after Ctrl-C.

    ``pyro-lfm --help`` lists the commands. It answers without importing torch, and so do ``--version`` and ``info``.

    Args:
        argv: the arguments after the program's name; those of the process by default.

    >>> main(["info"])  # doctest: +ELLIPSIS
    pyro_lfm ...
    """
    try:
        import typer
    except ModuleNotFoundError:
        return _failed("typer is not installed, which the command line needs: pip install 'pyro_lfm[cli]'")
    from pyro_lfm.cli.commands import program
    from pyro_lfm.cli.output import warnings_as_lines
    from pyro_lfm.errors import DataError, DeclarationError, DocumentError, TrainingError

    try:
        with warnings_as_lines():
            # Typer itself would print errors in several lines, and as tracebacks.
            status = program(None if argv is None else [*argv], prog_name="pyro-lfm", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        return _closed_output()
    except TrainingError as error:
        return _failed(str(error), status=FAILURE)
    except DocumentError as error:
        return _failed(*(f"{path} | {fault}" if path else fault for path, fault in error.errors))
    except (DeclarationError, DataError, ImportError, OSError) as error:
        return _failed(str(error))
    except _usage_errors(typer.BadParameter) as error:
        words = error.format_message().replace("Value error, ", "").rstrip(".")  # type: ignore[attr-defined]
        given = _given(error, sys.argv[1:] if argv is None else argv)
        return _failed(f"{words}{given}: see {_command(error)} --help")


def _usage_errors(kind: type[Exception]) -> type[Exception]:
    """The base class of typer's errors about arguments, which is click's or its own, by version."""
    return next(base for base in reversed(kind.__mro__) if hasattr(base, "format_message"))


def _command(error: Exception) -> str:
    """The command that an error is about, whose help has the remedy."""
    return str(getattr(getattr(error, "ctx", None), "command_path", "pyro-lfm"))


def _given(error: Exception, argv: Sequence[str]) -> str:
    """What was given for the option that an error is about, where its message does not say so."""
    options = getattr(getattr(error, "param", None), "opts", ())
    for option, value in zip(argv, [*argv[1:], ""], strict=False):
        name, equals, after = option.partition("=")
        given = after if equals else value
        if name in options and given and repr(given) not in str(error):
            return f"; got {given!r}"
    return ""


def _failed(*messages: str, status: int = MISTAKE) -> int:
    """Prints messages on stderr, a line each, and gives the exit status."""
    for message in messages:
        print(f"pyro-lfm: {' '.join(message.split())}", file=sys.stderr)
    return status


def _closed_output() -> int:
    """Ends in silence when the reader of stdout, such as ``head``, has read enough."""
    # The interpreter flushes stdout once more at its end, and would print the error.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILURE
