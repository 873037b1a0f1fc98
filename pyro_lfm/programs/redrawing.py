"""Weights of declarations that start anew: all of them, or only those that the library drew."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

from torch import nn

from pyro_lfm.errors import SeedWarning, warn
from pyro_lfm.factors.factor import Factor
from pyro_lfm.programs.first_weights import drawing, replace


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
    copies = {name: factor.redrawn() for name, factor in copy.deepcopy(dict(factors)).items()}
    for factor in copies.values():
        given = [source for source in factor.declared_sources if isinstance(source, nn.Module)]
        for module in chain.from_iterable(holder.modules() for holder in (factor, *given)):
            own = list(module.parameters(recurse=False))
            frozen = bool(own) and not any(parameter.requires_grad for parameter in own)
            reset = getattr(module, "reset_parameters", None)
            if callable(reset) and not frozen:
                reset()
    return copies


def redraw(
    program: Any,
    factors: Mapping[str, Factor],
    declare: Callable[[dict[str, Factor]], Any],
    seed: int,
    what: str,
) -> None:
    """Draws the first weights of a program from a seed, in place, unless they have changed since its declaration.

    It is declared once more, within a stream of the seed's own, and its parameters take the values found there. What the
    declaration gives a value has it again. Modules that were given as sources are the user's: they keep their weights.
    """
    if not program.is_as_declared:
        return
    dtype, device = program.dtype, program.device
    own = [m for f in factors.values() for m in f.declared_sources if isinstance(m, nn.Module)]
    kept = {id(module) for source in own for module in source.modules()}
    try:
        with drawing(seed, what):
            anew = declare({name: factor.redrawn() for name, factor in copy.deepcopy(dict(factors)).items()})
        reason = replace(program.own_tensors(), anew.own_tensors(), kept)
    except Exception as error:  # whatever a factory of the user's may raise that is called a second time
        reason = f"declaring it anew fails with {type(error).__name__}: {error}"
    # A factory that gives the same module each time has given one that was promoted with the new program.
    if (program.dtype, program.device) != (dtype, device):
        program.to(dtype=dtype, device=device)
    if reason is not None:
        warn(
            f"the first weights of the {what} are not drawn from the seed: {reason}. The fit starts from the weights that "
            "it has; to repeat it, call torch.manual_seed before the declaration",
            SeedWarning,
        )
    program.remember_first_weights()
