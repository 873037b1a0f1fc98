"""Modules with values that the user declared, which keep their digits in every floating type of the module.

Sources, factors and codes use them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from pyro_lfm.errors import DeclarationError


class DeclaredValues(nn.Module):
    """A module with declared values, such as a fixed 0.1, as parameters or buffers.

    A model is built in float32 and may be converted to float64 later. Converting the tensor alone would give
    0.10000000149. So the declared digits are kept beside it, and replace the tensor as long as nothing else has moved it.

    >>> module = DeclaredValues()
    >>> module.declare("rate", exact(0.1), torch.float32)
    >>> float(module.rate), float(module.double().rate)
    (0.10000000149011612, 0.1)
    """

    # The tensors hold the same values as far as their type allows.
    not_identity: tuple[str, ...] = ("_declared",)
    _declared: dict[str, Tensor]

    def __init__(self) -> None:
        super().__init__()
        self._declared = {}

    def declare(self, name: str, value: Tensor, dtype: torch.dtype, learned: bool = False) -> None:
        """Registers a value as a buffer, or as a parameter if it is learned.

        Args:
            value: all declared digits.
            dtype: the floating type of the parameter or buffer.
        """
        tensor = value.detach().to(dtype).clone()
        if learned:
            self.register_parameter(name, nn.Parameter(tensor))
        else:
            self.register_buffer(name, tensor)
        self._declared[name] = value.detach().double().cpu()

    def digits(self, name: str) -> Tensor:
        """The value in float64, with its declared digits if nothing has moved it."""
        tensor, declared = self._tensor(name).detach(), self._declared.get(name)
        if declared is not None and torch.equal(declared.to(tensor.dtype), tensor.cpu()):
            return declared
        return tensor.cpu().double()

    def redeclare(self, name: str, value: Tensor) -> None:
        """Replaces a value and its declared digits."""
        with torch.no_grad():
            self._tensor(name).copy_(value.to(self._tensor(name).dtype))
        self._declared[name] = value.detach().double().cpu()

    def _tensor(self, name: str) -> Tensor:
        tensor = self._parameters.get(name, self._buffers.get(name))
        assert tensor is not None
        return tensor

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = {name: self._tensor(name).dtype for name in self._declared}
        moved: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, dtype in before.items():
            tensor, declared = self._tensor(name), self._declared[name]
            # A tensor without storage, of the device meta, has no values.
            if tensor.dtype != dtype and not tensor.is_meta:
                rounded = declared.to(dtype).to(tensor.dtype)
                if torch.equal(rounded, tensor.detach().cpu()):
                    self.redeclare(name, declared)
        return moved


def exact(value: ArrayLike | Tensor) -> Tensor:
    """A user's number, array or tensor in float64, with all its digits.

    Raises:
        DeclarationError: it is none of these.
    """
    try:
        return torch.as_tensor(value, dtype=torch.float64).detach().cpu().clone()
    except (TypeError, ValueError, RuntimeError):
        raise DeclarationError(f"a value must be a number, array or tensor; got {value!r}") from None


def type_of(value: ArrayLike | Tensor | None) -> torch.dtype:
    """The floating type of a user's value: that of a floating tensor, torch's default type for all others."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.dtype
    return torch.get_default_dtype()
