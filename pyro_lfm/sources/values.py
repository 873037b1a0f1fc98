"""Sources of parameters that are the same for all rows: learned, or fixed."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.sources.source import Parameter, Source


class Value(Source):
    """A source of one value for all rows."""

    @abstractmethod
    def tensor(self) -> Tensor | None:
        """The natural value; None for the default start of the family."""

    @property
    def reads_parents(self) -> bool:
        return False

    @property
    def has_value(self) -> bool:
        return self.tensor() is not None

    @property
    @abstractmethod
    def is_learned(self) -> bool:
        """Whether training moves the value."""

    def module_for(self, parameter: Parameter) -> Constant:
        if parameter.heads:
            raise DeclarationError(f"{parameter.name} must be a network or PerRow; got {type(self).__name__}")
        return Constant(self.raw(parameter), self.is_learned)

    def raw(self, parameter: Parameter) -> Tensor:
        """The raw value, of the shape of the parameter.

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
    tensor(2.)
    """

    init: ArrayLike | Tensor | None = None

    def tensor(self) -> Tensor | None:
        return None if self.init is None else _as_float(self.init)

    @property
    def is_learned(self) -> bool:
        return True

    def describe(self) -> str:
        return "learned"


@dataclass(eq=False, repr=False)
class Fixed(Value):
    """A value that is never trained, in natural units like that of ``Learned``.

    >>> Fixed([1.0, 2.0]).tensor()
    tensor([1., 2.])
    """

    value: ArrayLike | Tensor

    def tensor(self) -> Tensor:
        return _as_float(self.value)

    @property
    def is_learned(self) -> bool:
        return False

    def describe(self) -> str:
        return "fixed"


class Constant(nn.Module):
    """The module of a learned or fixed value."""

    def __init__(self, value: Tensor, learned: bool):
        super().__init__()
        if learned:
            self.value = nn.Parameter(value)
        else:
            self.register_buffer("value", value)

    def forward(self, context: Tensor | None, index: Tensor | None = None) -> Tensor:
        return self.value


def _as_float(value: ArrayLike | Tensor) -> Tensor:
    """A floating tensor with its own type; numbers and arrays in torch's default type."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().clone()
    try:
        return torch.as_tensor(value, dtype=torch.get_default_dtype()).clone()
    except (TypeError, ValueError, RuntimeError):
        raise DeclarationError(f"a value must be a number, array or tensor; got {value!r}") from None
