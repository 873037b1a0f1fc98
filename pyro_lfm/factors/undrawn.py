"""Declarations whose weights start anew."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import chain

from torch import nn

from pyro_lfm.factors.factor import Factor


def undrawn(factors: Mapping[str, Factor]) -> dict[str, Factor]:
    """Copies of declarations, in which the modules that they hold have drawn their weights anew.

    That is what ``reset_parameters`` does, which torch's layers have. Frozen weights, and parameters of modules without it,
    stay as they are: they are values that somebody set.

    >>> from pyro_lfm.families import Gaussian
    >>> declared = Gaussian(3, mean=nn.Linear(2, 3))
    >>> found = undrawn({"x": declared})["x"]
    >>> bool((found.sources["mean"].weight == declared.sources["mean"].weight).any())
    False
    """
    copies = copy.deepcopy(dict(factors))
    for factor in copies.values():
        given = [source for source in factor.declared_sources if isinstance(source, nn.Module)]
        for module in chain.from_iterable(holder.modules() for holder in (factor, *given)):
            own = list(module.parameters(recurse=False))
            frozen = bool(own) and not any(parameter.requires_grad for parameter in own)
            reset = getattr(module, "reset_parameters", None)
            if callable(reset) and not frozen:
                reset()
    return copies
