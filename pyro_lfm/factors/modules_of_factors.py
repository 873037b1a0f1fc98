"""Modules with the methods and attributes of a factor. They hold its parameters, buffers and submodules."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any, ClassVar, SupportsIndex, TypeVar

from torch import Tensor, nn

from pyro_lfm.declarations.pickling import without_local_functions

if TYPE_CHECKING:
    from pyro_lfm.factors.factor import Factor

# Attributes of the declaration, not of the author of the factor.
OF_DECLARATION = frozenset(
    {"_written", "event_shape", "given", "sources", "network", "code", "_buffer_names"}
)


def own_attributes(declaration: Factor) -> dict[str, Any]:
    """The attributes that the author of a factor set. A hand-written factor may call one of them ``network``."""
    own = {name: value for name, value in vars(declaration).items() if name not in OF_DECLARATION}
    if declaration.is_hand_written and declaration.network is not None:
        own["network"] = declaration.network
    return own


class ModuleOfFactor(nn.Module):
    """A module whose class also inherits from a factor's class, so that the factor's methods run on the module.

    Parameters, buffers and submodules among its attributes are trained, moved and saved, as in every ``nn.Module``.
    """

    bases_of_mixture: ClassVar[tuple[type[ModuleOfFactor], type[Factor]]]

    def take_attributes(self, declaration: Factor) -> None:
        """Copies the attributes that the author of the factor set."""
        persistent = vars(declaration).get("_buffer_names", {})
        # One deepcopy of all attributes, so that shared tensors stay shared. A reference to the declaration, as in a bound
        # method, becomes one to the module.
        for name, value in copy.deepcopy(own_attributes(declaration), {id(declaration): self}).items():
            if name in persistent:
                self.register_buffer(name, value, persistent[name])
            else:
                setattr(self, name, value)

    # These methods are those of nn.Module, not of Part.
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
    """A family that holds tensors or modules of its own, for use in ``distribution`` and ``natural``."""

    def __init__(self, declaration: Factor):
        super().__init__()
        # Not by setattr, which would register a network given as a module a second time.
        declared = vars(declaration)
        vars(self).update(
            {name: declared[name] for name in OF_DECLARATION - {"_written"} if name in declared}
        )
        self.take_attributes(declaration)


class _Default:
    """The value of a class attribute, where the module has no parameter, buffer or submodule of that name.

    A module keeps these apart from its other attributes, where Python would look only after the class.
    """

    def __init__(self, name: str, value: object):
        self.name, self.value = name, value

    def __get__(self, module: nn.Module | None, owner: type) -> object:
        if module is not None:
            held = vars(module)
            for registry in ("_parameters", "_buffers", "_modules"):
                if self.name in held.get(registry, ()):
                    return held[registry][self.name]
        return self.value


M = TypeVar("M", bound=ModuleOfFactor)


@functools.cache
def mixed(base: type[M], factor: type[Factor]) -> type[M]:
    """The class that inherits from a module class and from a factor's class."""
    from pyro_lfm.factors.factor import Factor
    from pyro_lfm.factors.prior import Prior

    # The author's methods take precedence over those of nn.Module.
    authored = [part for part in factor.__mro__ if issubclass(part, Factor) and part not in (Factor, Prior)]
    names: dict[str, Any] = {}
    for part in reversed(authored):
        names.update(
            {name: value for name, value in vars(part).items() if name not in ("__dict__", "__weakref__")}
        )
    for part in reversed(factor.__mro__):
        if issubclass(part, Factor):
            for name, value in vars(part).items():
                if not name.startswith("__") and not hasattr(type(value), "__get__"):
                    names[name] = _Default(name, value)
    names["bases_of_mixture"] = (base, factor)
    # The call of the metaclass creates the class, not an instance.
    return type(factor)(factor.__name__, (base, factor), names)  # type: ignore[misc, no-any-return]


def blank(base: type[M], factor: type[Factor]) -> M:
    """An instance without attributes. Building, copying and unpickling fill it."""
    module: M = object.__new__(mixed(base, factor))  # type: ignore[arg-type]
    return module


def state_of_family(declaration: Factor) -> FamilyWithState | None:
    """The module of a family that holds tensors or modules; None for all others."""
    own = own_attributes(declaration)
    if not any(isinstance(value, Tensor | nn.Module) for value in own.values()):
        return None
    module = blank(FamilyWithState, type(declaration))
    FamilyWithState.__init__(module, declaration)
    return module
