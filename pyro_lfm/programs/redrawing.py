"""New initial weights for a model or guide, in place or in a new one with the same declaration."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from types import MethodType
from typing import TypeVar

from torch import nn

from pyro_lfm.declarations import Part
from pyro_lfm.errors import warn
from pyro_lfm.factors import Factor
from pyro_lfm.programs.first_weights import drawing, replace
from pyro_lfm.programs.program import Program
from pyro_lfm.sources.applied import Applied
from pyro_lfm.warning_kinds import SeedWarning

Value = TypeVar("Value")


def with_reset_modules(factors: Mapping[str, Factor]) -> dict[str, Factor]:
    """Copies declarations and re-initialises the modules that they hold.

    Modules draw new weights in ``reset_parameters``, which torch's layers have. Frozen weights and the parameters of
    modules without this method stay, because the user has set them.

    >>> from pyro_lfm.families import Gaussian
    >>> declared = Gaussian(3, mean=nn.Linear(2, 3))
    >>> reset = with_reset_modules({"x": declared})["x"]
    >>> bool((reset.sources["mean"].weight == declared.sources["mean"].weight).any())
    False
    """
    # One dictionary for all factors, so that shared modules stay shared.
    copies: dict[int, tuple[nn.Module, nn.Module]] = {}
    return {name: _reset(factor, copies) for name, factor in factors.items()}


def _reset(value: Value, copies: dict[int, tuple[nn.Module, nn.Module]]) -> Value:
    """The value, with every module in it replaced by a re-initialised copy."""
    if isinstance(value, Part):
        reset = value.altered(**{name: _reset(part, copies) for name, part in vars(value).items()})
        # A bound method of the declaration is one of its copy.
        vars(reset).update(copy.deepcopy(_methods(vars(reset)), {id(value): reset}))
        return reset
    if isinstance(value, Mapping) and type(value) is dict:
        return {key: _reset(part, copies) for key, part in value.items()}  # type: ignore[return-value]
    if type(value) in (list, tuple):
        return type(value)(_reset(part, copies) for part in value)  # type: ignore[call-arg, attr-defined]
    if not isinstance(value, nn.Module):
        return value
    if id(value) not in copies:
        # The original is stored too, so that no other object gets its id.
        copies[id(value)] = value, copy.deepcopy(value)
        _draw_weights(copies[id(value)][1])
    return copies[id(value)][1]  # type: ignore[return-value]


def _methods(attributes: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in attributes.items() if isinstance(value, MethodType)}


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
    """Draws the initial weights of a program from a seed, in place, unless they have changed since its declaration.

    A new program is declared in a random stream of the seed, and its weights are copied. Modules given as sources keep
    their weights.
    """
    if not program.is_as_declared:
        return
    dtype, device = program.dtype, program.device
    given = [part.network for part in program.modules() if isinstance(part, Applied) and part.is_given]
    kept = {id(module) for network in given for module in network.modules()}
    try:
        with drawing(seed, what):
            # Converted, so that the declared values have the digits of the floating type.
            other = declare(factors).to(dtype=dtype)
        reason = replace(program.own_tensors(), other.own_tensors(), kept)
    except Exception as error:  # the second call of a user's factory may raise anything
        reason = f"declaring it again fails with {type(error).__name__}: {error}"
    # If a factory returns the same module each time, the new program may have converted it to another type.
    if (program.dtype, program.device) != (dtype, device):
        program.to(dtype=dtype, device=device)
    if reason is not None:
        warn(
            f"the first weights of the {what} are not drawn from the seed: {reason}. The fit starts from the weights that "
            "it has; to repeat it, call torch.manual_seed before the declaration",
            SeedWarning,
        )
    program.remember_first_weights()
