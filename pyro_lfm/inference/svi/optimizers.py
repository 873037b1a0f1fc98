"""Torch optimizers: what serves a fit, how one is made, and what is put around it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch

from pyro_lfm.errors import DeclarationError

_WANTED = "a class such as torch.optim.Adam, or a function (parameters, lr=) -> torch.optim.Optimizer"


def clip(
    optimizer: torch.optim.Optimizer, parameters: Sequence[torch.Tensor], norm: float | None
) -> torch.optim.Optimizer:
    """The optimizer, which first scales the gradients of ``parameters`` down to an L2 norm of at most ``norm``, all together.

    Source: Pascanu, Mikolov and Bengio (2013), algorithm 1.
    """
    if norm is not None:
        optimizer.register_step_pre_hook(lambda *_: clip_gradients(parameters, norm))
    return optimizer


def clip_gradients(parameters: Iterable[torch.Tensor], norm: float) -> None:
    """Scales the gradients of some parameters, in place, so that their common L2 norm is at most ``norm``."""
    torch.nn.utils.clip_grad_norm_(parameters, norm)


def check_optimizer(optimizer: Any) -> None:
    """Refuses, before anything is trained, what is known not to serve.

    Raises:
        DeclarationError: it makes no optimizer, is one already, or its steps evaluate the loss again and again.
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


def maker(optimizer: Callable[..., Any]) -> Callable[..., torch.optim.Optimizer]:
    """The function that makes an optimizer of some parameters, with what goes wrong in words.

    >>> maker(lambda parameters, lr: None)([torch.nn.Parameter(torch.zeros(1))], lr=0.1)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pyro_lfm.errors.DeclarationError: optimizer must be a class such as torch.optim.Adam, ... it gave None
    """

    def make(parameters: Iterable[Any], lr: float) -> torch.optim.Optimizer:
        try:
            made = optimizer(parameters, lr=lr)
        except DeclarationError:
            raise
        except Exception as error:  # whatever a user's function may raise
            raise DeclarationError(
                f"optimizer must be {_WANTED}; called with the parameters and lr={lr:g}, "
                f"{_name(optimizer)} raised {type(error).__name__}: {error}"
            ) from error
        if not isinstance(made, torch.optim.Optimizer):
            raise DeclarationError(f"optimizer must be {_WANTED}; it gave {made!r}")
        _check_step(type(made))
        return made

    return make


def _check_step(kind: type[torch.optim.Optimizer]) -> None:
    """A step must not need a function that evaluates the loss: on minibatches with noise no two values are alike."""
    parameters = list(inspect.signature(kind.step).parameters.values())
    if any(p.name == "closure" and p.default is p.empty for p in parameters[1:]):
        raise DeclarationError(
            f"optimizer: {kind.__name__} evaluates the loss several times in a step, and compares what it gets; the loss of "
            "a minibatch is another at every evaluation. Use torch.optim.Adam or another that takes one gradient in a step"
        )


def _name(optimizer: Any) -> str:
    return getattr(optimizer, "__qualname__", type(optimizer).__qualname__)
