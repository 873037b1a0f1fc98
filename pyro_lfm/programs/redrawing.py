"""New first weights: for a model or guide in place, or for another one that is declared alike."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TypeVar

from torch import nn

from pyro_lfm.declarations import Declaration
from pyro_lfm.errors import SeedWarning, warn
from pyro_lfm.factors import Factor
from pyro_lfm.programs.first_weights import drawing, replace
from pyro_lfm.programs.program import Program
from pyro_lfm.sources.applied import Applied

Value = TypeVar("Value")


def with_reset_modules(factors: Mapping[str, Factor]) -> dict[str, Factor]:
    """The same declarations with copies of the modules that they hold, whose weights are drawn anew.

    ``reset_parameters``, which torch's layers have, draws them. Frozen weights, and parameters of modules without it,
    stay as they are: the user has set them.

    >>> from pyro_lfm.families import Gaussian
    >>> declared = Gaussian(3, mean=nn.Linear(2, 3))
    >>> reset = with_reset_modules({"x": declared})["x"]
    >>> bool((reset.sources["mean"].weight == declared.sources["mean"].weight).any())
    False
    """
    # One memory for all: modules that are shared stay shared.
    copies: dict[int, tuple[nn.Module, nn.Module]] = {}
    return {name: _reset(factor, copies) for name, factor in factors.items()}


def _reset(value: Value, copies: dict[int, tuple[nn.Module, nn.Module]]) -> Value:
    """A value in which every module is replaced by its reset copy."""
    if isinstance(value, Declaration):
        return value.altered(**{name: _reset(part, copies) for name, part in vars(value).items()})
    if isinstance(value, Mapping) and type(value) is dict:
        return {key: _reset(part, copies) for key, part in value.items()}  # type: ignore[return-value]
    if type(value) in (list, tuple):
        return type(value)(_reset(part, copies) for part in value)  # type: ignore[call-arg, attr-defined]
    if not isinstance(value, nn.Module):
        return value
    if id(value) not in copies:
        # The original is kept too, so that its identity is not given to another object.
        copies[id(value)] = value, copy.deepcopy(value)
        _draw_weights(copies[id(value)][1])
    return copies[id(value)][1]  # type: ignore[return-value]


def _draw_weights(module: nn.Module) -> None:
    for part in module.modules():
        own = list(part.parameters(recurse=False))
        is_frozen = bool(own) and not any(parameter.requires_grad for parameter in own)
        reset = getattr(part, "reset_parameters", None)
        if callable(reset) and not is_frozen:
            reset()


def redraw(
    program: Program,
    factors: Mapping[str, Factor],
    declare: Callable[[Mapping[str, Factor]], Program],
    seed: int,
    what: str,
) -> None:
    """Draws the first weights of a program from a seed, in place, unless they have changed since its declaration.

    It is declared once more, within a stream of the seed's own, and its parameters take the values of the new program.
    Values of the declaration are restored. Modules that were given as sources are the user's: they keep their weights.
    """
    if not program.is_as_declared:
        return
    dtype, device = program.dtype, program.device
    given = [part.network for part in program.modules() if isinstance(part, Applied) and part.is_given]
    kept = {id(module) for network in given for module in network.modules()}
    try:
        with drawing(seed, what):
            anew = declare(factors)
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
