"""``further_files``: the files of a checkpoint, beside its state, that make it a saved fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyro_lfm.inference.fitted import Fit
    from pyro_lfm.storage.folder import Content


def further_files(done: Fit) -> dict[str, Content]:
    """The files of the fit so far, by name, which ``lfm.load`` reads. They change together with the state."""
    return done.files()
