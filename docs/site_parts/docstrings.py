"""Docstrings for Sphinx. They are written for ``help()``: plain text that marks only code and examples."""

import re
from typing import Any

_CODE = re.compile(r"(``.*?``)", re.S)
# What reStructuredText would read as emphasis, a substitution or a link.
_MARKS = re.compile(r"(?<!\\)([*|`]|(?<=\w)_(?!\w))")


def plain(text: str) -> str:
    r"""A line in which nothing but code is marked.

    >>> plain("``f(*x)`` gives p(x | z) and ``n_`` or n_")
    '``f(*x)`` gives p(x \\| z) and ``n_`` or n\\_'
    """
    return "".join(part if part.startswith("``") else _MARKS.sub(r"\\\1", part) for part in _CODE.split(text))


def escape(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """For Sphinx's event ``autodoc-process-docstring``: changes the lines in place, but for examples and literal blocks."""
    literal: int | None = None  # the indentation of the line that a literal block belongs to
    for number, line in enumerate(lines):
        indentation = len(line) - len(line.lstrip())
        if literal is not None and line.strip() and indentation <= literal:
            literal = None
        if literal is None and not _is_example(lines, number):
            lines[number] = plain(line)
            if line.rstrip().endswith("::"):
                literal = indentation


def _is_example(lines: list[str], number: int) -> bool:
    """Whether a line belongs to a doctest, which ends with an empty line."""
    while number >= 0 and lines[number].strip():
        if lines[number].lstrip().startswith(">>>"):
            return True
        number -= 1
    return False
