"""``further_files``: files of a checkpoint beside those from which the fit goes on, such as its history as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyro_lfm.inference.fitted import Fit
    from pyro_lfm.storage.folder import Content


def further_files(done: Fit) -> dict[str, Content]:
    """The files by name. They change together with the state: a function that writes one may read the weights beside it."""
    return {}
