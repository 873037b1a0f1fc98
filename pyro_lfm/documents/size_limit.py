"""A limit on the numbers that a declaration makes, so that a digit too many in a file does not exhaust the memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pyro_lfm.errors import DeclarationError

# Numbers that all parameters of a declaration have together: 256 MiB in single precision.
MOST = 2**26
_FACTORIES = ("empty", "zeros", "ones", "full", "rand", "eye", "arange", "linspace", "repeat", "normal")


def limit_of(tensors: Mapping[str, Tensor]) -> int:
    """The limit of a declaration whose weights are these tensors."""
    return min(MOST, 2**22 + 4 * sum(tensor.numel() for tensor in tensors.values()))


class SizeLimit(TorchDispatchMode):
    """A context in which operations of torch that would make too many numbers are refused before they are run.

    Args:
        most: numbers that one operation may make, and all factories of tensors together.

    Raises:
        DeclarationError: the limit is reached.

    >>> import torch
    >>> with SizeLimit(1000):
    ...     torch.zeros(2000)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pyro_lfm.errors.DeclarationError: the declaration has more than 1000 numbers, ... declare it in Python
    """

    def __init__(self, most: int = MOST):
        super().__init__()  # type: ignore[no-untyped-call]
        self.most, self.made = most, 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        size = self._size(func, args)
        self.made += size if func._schema.name.split("::")[-1].startswith(_FACTORIES) else 0
        if max(size, self.made) > self.most:
            raise DeclarationError(
                f"the declaration has more than {self.most} numbers, which is the limit of a document: make it smaller, or "
                "declare it in Python"
            )
        return func(*args, **(kwargs or {}))

    def _size(self, func: Any, args: tuple[Any, ...]) -> int:
        """About the numbers that an operation makes."""
        name = func._schema.name.split("::")[-1]
        sizes = [value.numel() for value in args if isinstance(value, Tensor)]
        sizes += [
            prod(map(abs, v)) for v in args if isinstance(v, list | tuple) and all(type(n) is int for n in v)
        ]
        if name in ("eye", "arange", "linspace"):
            counts = [abs(value) for value in args if type(value) is int]
            sizes.append(prod((counts * 2)[:2]) if name == "eye" else max(counts, default=0))
        if name.startswith("tril_indices"):
            sizes.append(2 * prod(abs(value) for value in args[:2]))
        views = ("expand", "view", "as_strided", "_unsafe_view", "reshape")
        return 0 if name.startswith(views) else max(sizes, default=0)
