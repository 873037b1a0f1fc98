"""``Heap``: everything that some code can reach in memory, as a flat list of places, to notice changes and undo them.

Every object on the way is a place of its own. So nothing has changed if no place has, and a check is one pass over a list.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain

import torch

from pyro_lfm.inference.engines.nodes import PLAIN, Node
from pyro_lfm.inference.engines.places import Names, Pickled, Place, State, Unknown
from pyro_lfm.inference.engines.reads import ALL, ReadNames, is_library
from pyro_lfm.inference.engines.walk import Walk


class Heap:
    """The places that can be reached from some roots.

    Args:
        roots, names_read, written, codes: see ``Walk``.
        places: further places to begin with, and the objects that each holds.

    Attributes:
        doubt: why something cannot be watched, in words; None where everything can.

    >>> layer = torch.nn.Dropout(0.1)
    >>> heap = Heap([Node("layer", layer)])
    >>> layer.p = 0.2
    >>> heap.difference()
    'layer.p'
    """

    def __init__(
        self,
        roots: Iterable[Node],
        names_read: ReadNames = ALL,
        written: Collection[str] = (),
        codes: Collection[int] = (),
        places: Iterable[tuple[Place, Iterable[Node]]] = (),
    ):
        first = dict(places)
        by_path = {node.path: node for node in chain(roots, *first.values())}
        self._walk = Walk(by_path.values(), names_read, written, codes)
        self.doubt: str | None = None
        try:
            self._walk.go()
        except Unknown as unknown:
            self.doubt = str(unknown)
        self.places = [*first, *self._walk.places]

    def difference(self, running: bool = False) -> str | None:
        """The first value that is no longer as it was; None where nothing has changed.

        Args:
            running: whether the programs have run in between. Then the answer is a phrase about what the run did.
                Otherwise it is a path, and the states of random generators do not count.
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
        """Stops watching what each run of the libraries' own code makes anew, and gives the ids of the present objects.

        Such an object is made for a later part of the same run. If the next run did read it, it would be an input of the
        graph.
        """
        passing: set[int] = set()
        for place in self.places:
            if isinstance(place, Names) and place.owner is not None and is_library(place.owner.__module__):
                anew = [n for n in place.changes() if not isinstance(place.held.get(n), PLAIN)]
                place.volatile.update(anew)
                passing.update(id(place.held.get(name)) for name in place.volatile)
                if anew and not place.changes():
                    place.saved = place.read()
        return passing

    @contextmanager
    def preserved(self) -> Iterator[None]:
        """Puts everything back at the end."""
        undos = [place.undo() for place in self.places]
        try:
            yield
        finally:
            with torch.no_grad():
                for undo in reversed(undos):
                    undo()
