"""Checks of the optimizer that ``SVI`` is given, and clipping of gradients, for the engines."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch.optim.optimizer import ParamsT

from pyro_lfm.errors import DeclarationError

OptimizerMaker: TypeAlias = Callable[..., torch.optim.Optimizer]

_WANTED = "a class such as torch.optim.Adam, or a function (parameters, lr=) -> torch.optim.Optimizer"


def clip(
    optimizer: torch.optim.Optimizer, parameters: Sequence[torch.Tensor], norm: float | None
) -> torch.optim.Optimizer:
    """The optimizer, whose steps first scale the gradients of ``parameters`` down to a common L2 norm of ``norm``.

    Source: Pascanu, Mikolov and Bengio (2013), algorithm 1.
    """
    if norm is not None:
        optimizer.register_step_pre_hook(lambda *_: clip_gradients(parameters, norm))
    return optimizer


def clip_gradients(parameters: Iterable[torch.Tensor], norm: float) -> None:
    """Scales the gradients of some parameters, in place, so that their common L2 norm is at most ``norm``."""
    torch.nn.utils.clip_grad_norm_(parameters, norm)


def check_optimizer(optimizer: OptimizerMaker) -> None:
    """Refuses, before training, what cannot make an optimizer that serves.

    Raises:
        DeclarationError: it makes no optimizer, is one already, or evaluates the loss several times in a step.
    """
    if isinstance(optimizer, torch.optim.Optimizer):
        name = type(optimizer).__name__
        raise DeclarationError(
            f"optimizer must be {_WANTED}; got one that is made already, of other parameters: give torch.optim.{name}, or "
            f"functools.partial(torch.optim.{name}, ...) for its options"
        )
    if type(optimizer).__module__.startswith("pyro."):
        raise DeclarationError(f"optimizer must be {_WANTED}; got Pyro's {type(optimizer).__name__}")
    if not callable(optimizer):
        raise DeclarationError(f"optimizer must be {_WANTED}; got {optimizer!r}")
    kind: Any = optimizer
    while isinstance(kind, partial):
        kind = kind.func
    if isinstance(kind, type):
        if not issubclass(kind, torch.optim.Optimizer):
            raise DeclarationError(f"optimizer must be {_WANTED}; got the class {kind.__name__}")
        _check_step(kind)


def checked_maker(optimizer: OptimizerMaker) -> OptimizerMaker:
    """The function that makes an optimizer of some parameters, whose errors are in words.

    >>> checked_maker(lambda parameters, lr: None)([torch.nn.Parameter(torch.zeros(1))], lr=0.1)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pyro_lfm.errors.DeclarationError: optimizer must be a class such as torch.optim.Adam, ... it gave None
    """

    def make(parameters: ParamsT, lr: float) -> torch.optim.Optimizer:
        try:
            result = optimizer(parameters, lr=lr)
        except DeclarationError:
            raise
        except Exception as error:  # a user's function may raise anything
            raise DeclarationError(
                f"optimizer must be {_WANTED}; called with the parameters and lr={lr:g}, "
                f"{_name(optimizer)} raised {type(error).__name__}: {error}"
            ) from error
        if not isinstance(result, torch.optim.Optimizer):
            raise DeclarationError(f"optimizer must be {_WANTED}; it gave {result!r}")
        _check_step(type(result))
        return result

    return make


def _check_step(kind: type[torch.optim.Optimizer]) -> None:
    """Refuses an optimizer whose step evaluates the loss several times, as noise makes each evaluation another."""
    parameters = list(inspect.signature(kind.step).parameters.values())
    if any(p.name == "closure" and p.default is p.empty for p in parameters[1:]):
        raise DeclarationError(
            f"optimizer: {kind.__name__} evaluates the loss several times in a step and compares the values, but the loss "
            "of "
            "a minibatch is another at every evaluation. Use torch.optim.Adam or another that takes one gradient in a step"
        )


def _name(optimizer: OptimizerMaker) -> str:
    return getattr(optimizer, "__qualname__", type(optimizer).__qualname__)
