"""The conditional distribution of a factor that defines ``forward`` itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors.conditional import Conditional
from pyro_lfm.factors.forward_signature import check_forward
from pyro_lfm.factors.modules_of_factors import OF_DECLARATION, ModuleOfFactor, blank
from pyro_lfm.factors.variables import Variable

if TYPE_CHECKING:
    from pyro_lfm.factors.factor import Factor


class HandWritten(ModuleOfFactor, Conditional):
    """A factor's own ``forward`` as a conditional distribution. Its class inherits from the factor's class and nn.Module."""

    def __init__(self, declaration: Factor, name: str, parents: Sequence[Variable]):
        Conditional.__init__(self, declaration, name, parents)
        check_forward(type(declaration), list(self._parents), f"{name}: ")
        taken = {*vars(self), *self._modules} - {"training"}
        for attribute in vars(declaration):
            if attribute in taken - OF_DECLARATION:
                raise DeclarationError(
                    f"{name}: {type(declaration).__name__} cannot have an attribute {attribute}, which a built factor has "
                    "itself: choose another name"
                )
        self.given = declaration.given
        self.take_attributes(declaration)
        self.complete()

    __repr__ = Conditional.__repr__


def hand_written(declaration: Factor, name: str, parents: Sequence[Variable]) -> HandWritten:
    """Builds the module of a hand-written factor."""
    module = blank(HandWritten, type(declaration))
    HandWritten.__init__(module, declaration, name, parents)
    return module
