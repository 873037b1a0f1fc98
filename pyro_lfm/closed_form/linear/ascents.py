"""The end of a climb of a linear Gaussian model, with its floored columns in words; for EM and for variational EM."""

from __future__ import annotations

from pyro_lfm.closed_form.form import Ascent
from pyro_lfm.exact.history import History
from pyro_lfm.exact.linear.linear_gaussian import LinearGaussian

# The most columns that a warning names.
_NAMED = 8


def linear_ascent(end: LinearGaussian, history: History, observed: str) -> Ascent[LinearGaussian]:
    """The ascent that ``exact`` returned as parameters and history. observed: the name of the factor, for the words."""
    floored = history.floored
    columns = ", ".join(map(str, floored[:_NAMED])) + ", ..." * (len(floored) > _NAMED)
    words = f"the noise of column{'s' * (len(floored) > 1)} {columns} of {observed}"
    return Ascent(end, history.converged, words if floored else None, floored)
