"""The check that the ``forward`` of a hand-written factor takes the values of its parents."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from pyro_lfm.errors import DeclarationError


def check_forward(kind: type, parents: Sequence[str], where: str = "") -> None:
    """Raises DeclarationError where ``forward`` of a factor's class does not take these parents.

    >>> class Wide:
    ...     def forward(self, z): ...
    >>> check_forward(Wide, ["z", "y"], "x: ")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pyro_lfm.errors.DeclarationError: x: Wide.forward must take the values of its parents, which are z, y; too many ...
    """
    try:
        inspect.signature(kind.forward).bind(None, *parents)  # type: ignore[attr-defined]
    except TypeError as error:
        wanted = f"the values of its parents, which are {', '.join(parents)}"
        if not parents:
            wanted = "no parents, as in def forward(self), or name them with given="
        raise DeclarationError(f"{where}{kind.__name__}.forward must take {wanted}; {error}") from None
