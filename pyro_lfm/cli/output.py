"""What commands print: a result on stdout, as text or as JSON, and messages on stderr."""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, TextIO, TypeAlias

import typer

# A value of JSON. Numbers that are not finite become null.
Value: TypeAlias = "Mapping[str, Value] | Sequence[Value] | str | float | bool | None"
# The largest seed of a command; torch takes no larger ones.
LARGEST_SEED = 2**62
# The option of every command.
AsJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")
]


def show(result: Mapping[str, Value], text: str, as_json: bool) -> None:
    """Prints a result on stdout.

    Args:
        result: for programs. text: the same for readers.
    """
    print(json.dumps(_plain(result), indent=2, ensure_ascii=False, allow_nan=False) if as_json else text)


def say(message: str) -> None:
    """Prints a message in one line on stderr."""
    print(f"pyro-lfm: {' '.join(message.split())}", file=sys.stderr, flush=True)


def _plain(value: Value) -> Value:
    """A value of JSON, None for a number that is not finite."""
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def warnings_as_lines() -> Iterator[list[str]]:
    """A context that prints each warning of the library in one line, once, and gives them as a list.

    Warnings of other libraries are of no use to someone who runs a command, and are left out.
    """
    texts: list[str] = []

    def line(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = " ".join(str(message).split())
        if category.__module__.startswith("pyro_lfm") and text not in texts:
            texts.append(text)
            say(f"warning: {text}")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = line
        yield texts
