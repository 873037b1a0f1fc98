"""Sources of parameters that are the same for all rows: learned, or fixed."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.sources.declared_values import DeclaredValues, exact, type_of
from pyro_lfm.sources.source import Parameter, Source


class Value(Source):
    """A source of one value for all rows."""

    @property
    @abstractmethod
    def declared(self) -> ArrayLike | Tensor | None:
        """The natural value as the user wrote it; None for the default start of the family."""

    def tensor(self) -> Tensor | None:
        """The natural value in float64, with all its digits; None for the default start of the family."""
        return None if self.declared is None else exact(self.declared)

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of the module of the value, until the model is converted."""
        return type_of(self.declared)

    @property
    def reads_parents(self) -> bool:
        return False

    @property
    def has_value(self) -> bool:
        return self.declared is not None

    @property
    @abstractmethod
    def is_learned(self) -> bool:
        """Whether training moves the value."""

    def module_for(self, parameter: Parameter) -> Constant:
        if parameter.heads:
            raise DeclarationError(f"{parameter.name} must be a network or PerRow; got {type(self).__name__}")
        raw = self.raw(parameter)
        return Constant(raw, self.is_learned, raw.dtype if self.declared is None else self.dtype)

    def raw(self, parameter: Parameter) -> Tensor:
        """The raw value, of the shape of the parameter, with all its digits.

        Raises:
            ShapeError: the value does not broadcast to it.
            DeclarationError: it is not finite, or outside its support.
        """
        value = self.tensor()
        if value is None:
            return parameter.start.clone()
        raw = parameter.to_raw(value)
        try:
            raw = raw.expand(parameter.shape).clone()
        except RuntimeError:
            raise ShapeError(
                f"{parameter.name} must broadcast to shape {tuple(parameter.shape)}; got {tuple(value.shape)}"
            ) from None
        if not bool(torch.isfinite(raw).all()):
            raise DeclarationError(f"{parameter.name} must be finite and within its support; got {value}")
        return raw


@dataclass(eq=False, repr=False)
class Learned(Value):
    """A free parameter θ, the same for all rows, starting at ``init``.

    Args:
        init: natural value, broadcast to the parameter's shape: a rate is a rate, a covariance is given by
            its variances (Isotropic, Diagonal) or its matrix (Full). By default the family's own start.

    >>> Learned(2.0).tensor()
    tensor(2., dtype=torch.float64)
    """

    init: ArrayLike | Tensor | None = None

    @property
    def declared(self) -> ArrayLike | Tensor | None:
        return self.init

    @property
    def is_learned(self) -> bool:
        return True

    def describe(self) -> str:
        return "learned"


@dataclass(eq=False, repr=False)
class Fixed(Value):
    """A value that is never trained, in natural units like that of ``Learned``.

    >>> Fixed([1.0, 2.0]).tensor()
    tensor([1., 2.], dtype=torch.float64)
    """

    value: ArrayLike | Tensor

    @property
    def declared(self) -> ArrayLike | Tensor:
        return self.value

    @property
    def is_learned(self) -> bool:
        return False

    def describe(self) -> str:
        return "fixed"


class Constant(DeclaredValues):
    """The module of a learned or fixed value, in the floating type ``dtype``; by default that of the value."""

    value: Tensor

    def __init__(self, value: Tensor, learned: bool, dtype: torch.dtype | None = None):
        super().__init__()
        self.declare("value", value, dtype or value.dtype, learned)

    def forward(self, context: Tensor | None, index: Tensor | None = None) -> Tensor:
        return self.value
