"""``ByName``, the dicts of a comparison by candidate: a model that was given as a number is looked up by that number too."""

from __future__ import annotations

from typing import TypeVar

Value = TypeVar("Value")


class ByName(dict[str, Value]):
    """Values by the name of a candidate, which is text; a number stands for its text.

    >>> ranks = ByName({"2": "best"})
    >>> ranks[2], list(ranks)
    ('best', ['2'])
    """

    def __missing__(self, key: object) -> Value:
        if isinstance(key, int | float) and str(key) in self:
            return self[str(key)]
        raise KeyError(key)
