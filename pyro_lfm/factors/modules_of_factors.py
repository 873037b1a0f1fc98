"""Modules of factors: the parameters, buffers and modules that a factor holds as attributes, with its methods."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any, ClassVar, SupportsIndex, TypeVar

from torch import Tensor, nn

from pyro_lfm.declarations.pickling import without_local_functions

if TYPE_CHECKING:
    from pyro_lfm.factors.factor import Factor

# Attributes that say how the factor is declared.
OF_DECLARATION = frozenset({"_written", "event_shape", "given", "sources", "network", "code", "buffer_names"})


class ModuleOfFactor(nn.Module):
    """A module whose class is mixed with that of a factor, so that the factor's methods run on the module itself.

    Its attributes are those of any ``nn.Module``: what they hold is trained, moved and saved.
    """

    bases_of_mixture: ClassVar[tuple[type[ModuleOfFactor], type[Factor]]]

    def take_attributes(self, declaration: Factor) -> None:
        """Copies the attributes that the author of the factor has set."""
        own = {name: value for name, value in vars(declaration).items() if name not in OF_DECLARATION}
        persistent = vars(declaration).get("buffer_names", {})
        # One copy of all, so that attributes which share a tensor go on sharing it.
        for name, value in copy.deepcopy(own).items():
            if name in persistent:
                self.register_buffer(name, value, persistent[name])
            else:
                setattr(self, name, value)

    # The methods of a module, not those of a declaration.
    register_buffer = nn.Module.register_buffer
    register_parameter = nn.Module.register_parameter
    add_module = register_module = nn.Module.add_module
    __setattr__, __delattr__, __repr__ = nn.Module.__setattr__, nn.Module.__delattr__, nn.Module.__repr__
    __eq__, __hash__ = object.__eq__, object.__hash__

    def __copy__(self) -> ModuleOfFactor:
        other = blank(*self.bases_of_mixture)
        other.__setstate__(vars(self).copy())  # type: ignore[no-untyped-call]
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> ModuleOfFactor:
        other = memo[id(self)] = blank(*self.bases_of_mixture)
        other.__setstate__(copy.deepcopy(vars(self), memo))  # type: ignore[no-untyped-call]
        return other

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return blank, self.bases_of_mixture, without_local_functions(vars(self))


class FamilyWithState(ModuleOfFactor):
    """A family that holds tensors or modules of its own, which ``distribution`` and ``natural`` use."""

    def __init__(self, declaration: Factor):
        super().__init__()
        # Not by setattr: a network given as a module is a part of the distribution already.
        declared = vars(declaration)
        vars(self).update(
            {name: declared[name] for name in OF_DECLARATION - {"_written"} if name in declared}
        )
        self.take_attributes(declaration)


M = TypeVar("M", bound=ModuleOfFactor)


@functools.cache
def mixed(base: type[M], factor: type[Factor]) -> type[M]:
    """The class of modules that are of a base and of a factor's class."""
    from pyro_lfm.factors.factor import Factor, Prior

    # Methods of the author's come before those of nn.Module.
    authored = [part for part in factor.__mro__ if issubclass(part, Factor) and part not in (Factor, Prior)]
    names: dict[str, Any] = {}
    for part in reversed(authored):
        names.update(
            {name: value for name, value in vars(part).items() if name not in ("__dict__", "__weakref__")}
        )
    names["bases_of_mixture"] = (base, factor)
    # The class itself is made, not an instance of it: the metaclass is that of declarations.
    return type(factor)(factor.__name__, (base, factor), names)  # type: ignore[misc, no-any-return]


def blank(base: type[M], factor: type[Factor]) -> M:
    """An instance without attributes, for a module to be built, copied or read."""
    module: M = object.__new__(mixed(base, factor))  # type: ignore[arg-type]
    return module


def family_of(declaration: Factor) -> Factor:
    """The family whose methods a distribution calls: the declaration itself, or a module where it holds tensors or modules."""
    own = [value for name, value in vars(declaration).items() if name not in OF_DECLARATION]
    if not any(isinstance(value, Tensor | nn.Module) for value in own):
        return declaration
    module = blank(FamilyWithState, type(declaration))
    FamilyWithState.__init__(module, declaration)
    return module  # type: ignore[return-value]
