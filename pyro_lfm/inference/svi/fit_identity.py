"""``FitIdentity``: all that a fit is made of and what training changes of it, for checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyro_lfm.errors import DeclarationError
from pyro_lfm.identity import differences, identity_of

# The parts of a fit, beside its programs, that may have a state of their own.
_STATEFUL = ("objective", "schedule")


class FitIdentity:
    """The identity of a fit at its start, and the paths of the values that training changes.

    Args:
        fixed: the identity of what training does not change: arguments and digests of rows.
        parts: model, guide, objective and schedule, which training may change.
    """

    def __init__(self, fixed: Mapping[str, str], parts: Mapping[str, object]):
        self.parts = dict(parts)
        self.start = dict(fixed)
        self.inner = self._now()
        self.moved: set[str] = set()

    def _now(self) -> dict[str, str]:
        identity = identity_of(weights=False, **self.parts)
        # An objective of Pyro sets it at its first step.
        identity.pop("objective.max_plate_nesting", None)
        return identity

    @property
    def made_of(self) -> dict[str, str]:
        return {**self.start, **self.inner}

    def stateful(self) -> dict[str, Any]:
        """The parts of objective and schedule with ``state_dict`` and ``load_state_dict``, by path."""
        return {
            path: part for name in _STATEFUL for path, part in stateful(self.parts.get(name), name).items()
        }

    def record_changes(self) -> None:
        """Adds the paths of what has changed since the start: buffers, attributes that callbacks set.

        Raises:
            DeclarationError: an objective or a schedule with a state that a checkpoint does not hold.
        """
        self.moved.update(differences(self.inner, self._now()))
        held = tuple(self.stateful())
        for path in sorted(self.moved):
            if (name := path.split(".")[0]) in _STATEFUL and not path.startswith(held or "-"):
                raise DeclarationError(
                    f"the {name} changes while it is used ({path}), and a checkpoint does not hold its new state: give "
                    "its class state_dict() and load_state_dict(), or leave checkpoint= out"
                )


def stateful(part: object, path: str, depth: int = 2) -> dict[str, Any]:
    """The parts of an objective or schedule, itself included, with ``state_dict`` and ``load_state_dict``, by path."""
    if isinstance(part, type):
        return {}
    if callable(getattr(part, "state_dict", None)) and callable(getattr(part, "load_state_dict", None)):
        return {path: part}
    parts: dict[str, Any] = {}
    for name, value in getattr(part, "__dict__", {}).items() if depth else ():
        entries = value if isinstance(value, dict) else {"": value}
        for key, entry in entries.items():
            parts |= stateful(entry, ".".join(filter(None, (path, name, str(key)))), depth - 1)
    return parts
