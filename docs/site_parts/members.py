"""What the page of a public name shows: its public name, and the members of a class that this library documents."""

import inspect
from typing import Any


def is_left_out(app: Any, what: str, name: str, value: Any, skip: bool, options: Any) -> bool | None:
    """For Sphinx's event ``autodoc-skip-member``: True leaves a member out, None leaves the decision to Sphinx."""
    function = value.fget if isinstance(value, property) else value
    elsewhere = not (getattr(function, "__module__", None) or "").startswith("pyro_lfm")
    return True if inspect.isroutine(function) and elsewhere else None
