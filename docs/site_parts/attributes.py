"""Attributes of a result that a docstring describes together, ``lower, upper: bounds of each row``, one by one."""

import re
from typing import Any

# What napoleon makes of such a line. Sphinx would take all but the last name for a type.
_SEVERAL = re.compile(r":ivar (\w+(?:, \w+)+): ?(.*)")


def one_by_one(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """For Sphinx's event ``autodoc-process-docstring``, after napoleon: each name gets a field with the same text."""
    done, start = [], 0
    while start < len(lines):
        end = start + 1
        match = _SEVERAL.match(lines[start])
        while match and end < len(lines) and lines[end][:1].isspace():
            end += 1
        if match:
            for attribute in match[1].split(", "):
                done += [f":ivar {attribute}: {match[2]}", *lines[start + 1 : end]]
        else:
            done.append(lines[start])
        start = end
    lines[:] = done
