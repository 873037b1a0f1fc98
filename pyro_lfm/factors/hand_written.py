"""The conditional distribution of a factor that writes ``forward`` itself."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors.conditional import Conditional
from pyro_lfm.factors.variables import Variable

if TYPE_CHECKING:
    from pyro_lfm.factors.factor import Factor


class HandWrittenConditional(Conditional):
    """A factor's ``forward`` with parameters, buffers and modules of its own.

    The module copies those that the declaration holds, under the same names. ``forward`` runs on a stand-in for the
    declaration, an instance of the same class, whose attributes are the module's present tensors.
    """

    def __init__(self, declaration: Factor, name: str, parents: Sequence[Variable]):
        super().__init__(declaration, name, parents)
        # One copy of all, so that parts which share a tensor go on sharing it.
        attributes = copy.deepcopy(
            {n: v for n, v in vars(declaration).items() if isinstance(v, Tensor | nn.Module)}
        )
        persistent = vars(declaration).get("buffer_names", {})
        for attribute, value in attributes.items():
            if isinstance(value, nn.Module):
                self.add_module(attribute, value)
            elif isinstance(value, nn.Parameter):
                self.register_parameter(attribute, value)
            elif attribute in persistent:
                self.register_buffer(attribute, value, persistent[attribute])
        self._check_forward()
        self.stand_in_for_declaration = declaration.altered()
        vars(self.stand_in_for_declaration).pop("_written")
        self._share_tensors()
        self.complete()

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes that ``forward`` sees, by name."""
        return vars(self.stand_in_for_declaration)

    def _check_forward(self) -> None:
        forward = type(self.declaration).forward  # type: ignore[attr-defined]
        try:
            inspect.signature(forward).bind(self.declaration, *self._parents)
        except TypeError as error:
            kind, names = type(self.declaration).__name__, ", ".join(self._parents) or "no parents"
            raise DeclarationError(
                f"{self.name}: {kind}.forward must take the values of its parents, which are {names}: {error}"
            ) from None

    def forward(self, *parents: Tensor, **options: Any) -> TorchDistribution:
        """The distribution that the factor's own ``forward`` gives."""
        self._share_tensors()
        return self.stand_in_for_declaration.forward(*parents, **options)  # type: ignore[attr-defined, no-any-return]

    def _share_tensors(self) -> None:
        """Gives the stand-in the module's present tensors, which a functional call replaces."""
        for held in (self._parameters, self._buffers, self._modules):
            self.attributes.update(held)
        self.attributes["training"] = self.training

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            stand_in = self.__dict__.get("stand_in_for_declaration")
            if stand_in is None or name.startswith("_") or name not in vars(stand_in):
                raise
            return vars(stand_in)[name]
