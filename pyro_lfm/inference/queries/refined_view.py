"""``refined_view``: a fit whose guide is refined for each row. Estimators and the command line use it for rows with gaps."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from pyro_lfm.errors import DeclarationError
from pyro_lfm.guides import Guide, Refined

if TYPE_CHECKING:
    from pyro_lfm.inference.fitted import Fit


def refined_view(fit: Fit, steps: int = 100, learning_rate: float = 0.05) -> Fit:
    """A copy of a fit that has a ``Refined`` guide; the fit itself where its guide cannot be refined.

    A network that has seen few rows with gaps infers the factors of such rows badly: log p(x) of a row with half of its
    entries missing can be tens of nats too low, and filled cells are worse than by refined factors.

    >>> import torch
    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> inference = lfm.SVI(lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4))), epochs=1)
    >>> fit = lfm.fit(model, torch.randn(20, 3), inference, seed=0, progress=False)
    >>> type(refined_view(fit).guide).__name__, type(fit.guide).__name__
    ('Refined', 'Guide')
    """
    if not isinstance(fit.guide, Guide):
        return fit
    try:
        guide = Refined(fit.guide, steps=steps, learning_rate=learning_rate)
    except DeclarationError:  # a guide without networks, or with parameters of its own for each row
        return fit
    view = copy.copy(fit)
    view.guide = guide
    return view
