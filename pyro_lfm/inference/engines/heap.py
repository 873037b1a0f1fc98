"""Everything that some code can reach in memory, as a flat list of places: to see a change, and to undo one.

As every object on the way is a place of its own, nothing has changed where no place has: a look is one pass over a list.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pyro_lfm.inference.engines.places import PLAIN, Names, Pickled, Place, State, Unknown
from pyro_lfm.inference.engines.reads import ALL, Asked, is_library
from pyro_lfm.inference.engines.walk import Walk


class Heap:
    """The places that can be reached from some roots.

    Args:
        roots, asked, written, codes: see ``Walk``.
        places: further ones to begin with, and what they hold.

    Attributes:
        doubt: why not everything can be watched, in words; None where it can.

    >>> layer = torch.nn.Dropout(0.1)
    >>> heap = Heap({"layer": layer})
    >>> layer.p = 0.2
    >>> heap.difference()
    'layer.p'
    """

    def __init__(
        self,
        roots: dict[str, Any],
        asked: Asked = ALL,
        written: Collection[str] = (),
        codes: Collection[int] = (),
        places: Iterable[tuple[Place, dict[str, Any]]] = (),
    ):
        first = dict(places)
        for held in first.values():
            roots = {**roots, **held}
        self._walk = Walk(roots, asked, written, codes)
        self.doubt: str | None = None
        try:
            self._walk.go()
        except Unknown as unknown:
            self.doubt = str(unknown)
        self.places = [*first, *self._walk.places]

    def difference(self, running: bool = False) -> str | None:
        """What is no longer as it was: of several the first; None where all is.

        Args:
            running: whether a run of the programs lies between, and the answer is to say what it did. Otherwise it is
                a path, and random generators do not count: who draws from one is found by that.
        """
        if any(len(hooks) for _, hooks in self._walk.hooks):
            path = next(path for path, hooks in self._walk.hooks if hooks)
            return f"it changes {path} whenever it runs" if running else path
        for place in self.places:
            drawn = isinstance(place, State)
            if drawn and not running:
                continue
            if (changed := place.difference()) is not None:
                words = f"it draws from {changed}" if drawn else f"it changes {changed} whenever it runs"
                return words if running else changed
        return None

    @property
    def can_be_put_back(self) -> bool:
        return self.doubt is None and not any(isinstance(place, Pickled) for place in self.places)

    def passing(self) -> set[int]:
        """Sets aside what each run of the libraries' own code makes anew; the ids of what stands there now.

        What a run leaves for a later part of the same run decides nothing. Were it read by the next run, it would be
        an input of the graph.
        """
        passing: set[int] = set()
        for place in self.places:
            if isinstance(place, Names) and place.owner is not None and is_library(place.owner.__module__):
                made = [n for n in place.changes() if not isinstance(place.held.get(n), PLAIN)]
                place.volatile.update(made)
                passing.update(id(place.held.get(name)) for name in place.volatile)
                if made and not place.changes():
                    place.saved = place.read()
        return passing

    @contextmanager
    def preserved(self) -> Iterator[None]:
        """Puts everything back, as if what is done had not been."""
        before = [(place, place.read()) for place in self.places]
        try:
            yield
        finally:
            with torch.no_grad():
                for place, content in reversed(before):
                    place.write(content)
