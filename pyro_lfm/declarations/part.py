"""The base class of all declarations. It records the arguments of the constructor, for comparison and ``repr``."""

from __future__ import annotations

import copy
import inspect
from abc import ABCMeta
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch

from pyro_lfm.declarations.argument_errors import unfit_arguments
from pyro_lfm.declarations.pickling import without_local_functions
from pyro_lfm.declarations.writing import same, written
from pyro_lfm.errors import DeclarationError


class _Recording(ABCMeta):
    """The metaclass of declarations: it stores the arguments of a call in the new instance."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = tuple(map(_kept, args)), {name: _kept(argument) for name, argument in kwargs.items()}
        try:
            value = super().__call__(*args, **kwargs)
        except TypeError:
            error = unfit_arguments(cls.__name__, cls.__signature__, cls.instead, args, kwargs)
            if error is None:
                raise
            raise error from None
        # Not by setattr: from here on the value is complete, and refuses it.
        vars(value)["_written"] = args, kwargs
        value.check_declaration()
        return value

    instead: Mapping[str, str]

    @property
    def __signature__(cls) -> inspect.Signature:
        if cls.__init__ is object.__init__:  # type: ignore[misc]
            return inspect.Signature()
        signature = inspect.signature(cls.__init__)  # type: ignore[misc]
        return signature.replace(parameters=list(signature.parameters.values())[1:])


class Part(metaclass=_Recording):
    """An immutable value. Two declarations with the same class and arguments are equal, and ``repr`` gives the Python code.

    Attributes may be set in ``__init__`` and not after it. A copy of a declaration is itself, unless it holds
    modules, which are copied.

    >>> class Point(Part):
    ...     def __init__(self, x, y=0.0):
    ...         self.x, self.y = x, y
    >>> Point(1.0, y=2.0), Point(1.0) == Point(1.0, 0.0), Point(1.0) == Point(2.0)
    (Point(1.0, y=2.0), True, False)
    >>> Point(1.0).x = 3.0  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pyro_lfm.errors.DeclarationError: Point(1.0) is a declaration, which cannot change: write another ...
    """

    # The public module that exports the class, such as ``parameter_priors``; empty for the package itself.
    namespace: ClassVar[str] = ""
    # The remedy for each argument that a user may know from elsewhere, such as ``probs`` of a family with ``logits``.
    instead: ClassVar[Mapping[str, str]] = {}
    # An identity looks at the attributes, which hold the same values.
    not_identity: ClassVar[tuple[str, ...]] = ("_written",)
    _written: tuple[tuple[Any, ...], dict[str, Any]]

    def check_declaration(self) -> None:
        """Checks the complete declaration, after ``__init__``. Subclasses raise DeclarationError here."""

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by name, defaults included."""
        args, kwargs = self._written
        bound = type(self).__signature__.bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def altered(self, **attributes: Any) -> Self:
        """A copy with some attributes changed. Its ``repr`` and arguments stay those of this declaration."""
        other = object.__new__(type(self))
        vars(other).update({**vars(self), **attributes})
        return other

    def is_fixed(self, name: str) -> bool:
        """Whether an attribute of a complete declaration cannot be set."""
        return True

    def __setattr__(self, name: str, value: Any) -> None:
        if "_written" in vars(self) and self.is_fixed(name):
            raise DeclarationError(
                f"{self!r} is a declaration, which cannot change: write another instead of setting {name}"
            )
        inherited = getattr(type(self), name, None)
        if isinstance(inherited, property) and inherited.fset is None:
            raise reserved(self, name)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if "_written" in vars(self) and self.is_fixed(name):
            raise DeclarationError(
                f"{self!r} is a declaration, which cannot change: {name} cannot be deleted"
            )
        super().__delattr__(name)

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other) or not isinstance(other, Part):
            return NotImplemented
        return self is other or same(self.arguments, other.arguments)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        name = f"{self.namespace}.{type(self).__name__}" if self.namespace else type(self).__name__
        if "_written" not in vars(self):
            return f"{name}(...)"
        args, kwargs = self._written
        return (
            f"{name}({', '.join([*map(written, args), *(f'{k}={written(v)}' for k, v in kwargs.items())])})"
        )

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        if not holds_modules(vars(self)):
            return self
        other = memo[id(self)] = object.__new__(type(self))
        vars(other).update(copy.deepcopy(vars(self), memo))
        return other

    def __getstate__(self) -> dict[str, Any]:
        return without_local_functions(vars(self))


def reserved(part: Part, name: str) -> DeclarationError:
    """The error of an attribute whose name belongs to the library."""
    return DeclarationError(
        f"{type(part).__name__} cannot have an attribute {name}, which every such part has already: choose another name"
    )


class PartWithState(Part):
    """A declaration that may hold modules, or state of its author's. Its arguments do not change, and copies are copies."""

    def is_fixed(self, name: str) -> bool:
        return name in self.arguments

    def __copy__(self) -> Self:
        return self.altered()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        other = memo[id(self)] = object.__new__(type(self))
        vars(other).update(copy.deepcopy(vars(self), memo))
        return other


def _kept(argument: Any) -> Any:
    """An argument as the caller cannot change it any more: containers, arrays and tensors are copied, parameters are not."""
    if (
        isinstance(argument, torch.Tensor)
        and not argument.requires_grad
        and not isinstance(argument, torch.nn.Parameter)
    ):
        return argument.detach().clone()
    if isinstance(argument, np.ndarray):
        return argument.copy()
    if hasattr(argument, "to_numpy") and hasattr(argument, "columns"):
        # A DataFrame: a declaration holds its numbers, which text can hold too.
        return argument.to_numpy(copy=True)
    if isinstance(argument, Mapping):
        return {key: _kept(value) for key, value in argument.items()}
    if type(argument) in (list, tuple):
        return type(argument)(map(_kept, argument))
    return argument


def holds_modules(value: Any) -> bool:
    """Whether a value holds modules or parameters, in containers and declarations too."""
    if isinstance(value, torch.nn.Module | torch.nn.Parameter):
        return True
    if isinstance(value, Part):
        return holds_modules(vars(value))
    if isinstance(value, Mapping):
        return any(map(holds_modules, value.values()))
    return type(value) in (list, tuple) and any(map(holds_modules, value))
