"""First weights: whether a program still has those of its declaration, and how others are drawn from a seed.

``Program`` keeps a digest of the weights that its declaration gave it; where they are the same, ``fit`` draws them anew.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from pyro_lfm.runtime import Stream, isolated, others_random_kept
from pyro_lfm.sources.per_row import PerRowTable

# The name of a tensor, the module that holds it, and itself.
Held = tuple[str, nn.Module, torch.Tensor]


@contextmanager
def drawing(seed: int, what: str) -> Iterator[None]:
    """Whatever is drawn at random meanwhile follows from a seed: torch's numbers, Python's and NumPy's.

    Args:
        what: whose weights are drawn: those of model and guide must have nothing to do with each other, nor with the
            noise of the fit.

    >>> with drawing(0, "model"): a = torch.rand(1)
    >>> with drawing(0, "model"): b = torch.rand(1)
    >>> bool(a == b)
    True
    """
    digest = hashlib.blake2b(f"{what} {seed}".encode(), digest_size=7).digest()
    number = int.from_bytes(digest, "big")
    with isolated(Stream(number)), others_random_kept():
        random.seed(number)
        np.random.seed(number % 2**32)
        yield


def tensors(module: nn.Module, prefix: str = "") -> Iterator[Held]:
    """All parameters and buffers, each once, with the modules that hold them."""
    seen: set[int] = set()
    for path, part in module.named_modules(prefix=prefix):
        for held in (part._parameters, part._buffers):
            for name, value in held.items():
                if value is not None and id(value) not in seen:
                    seen.add(id(value))
                    yield f"{path}.{name}" if path else name, part, value


def digest_of(held: Iterable[Held]) -> str:
    """A digest of weights, the same in every floating type that holds them exactly and wherever they are.

    Of a table of rows what counts is whether a row has left its start. Buffers of torch's own layers are no weights but
    statistics of what has run through them.
    """
    found = hashlib.blake2b(digest_size=16)
    for name, owner, value in held:
        if not isinstance(value, nn.Parameter) and type(owner).__module__.startswith("torch."):
            continue
        if nn.parameter.is_lazy(value):
            continue
        numbers = value.detach().cpu()
        if isinstance(owner, PerRowTable) and value is owner.rows:
            numbers = numbers - owner.start.detach().cpu().flatten()
            numbers = numbers[(numbers != 0).any(1)]
        if numbers.is_floating_point():
            numbers = numbers.double()
        found.update(f"{name} {tuple(numbers.shape)} ".encode())
        found.update(numbers.numpy().tobytes())
    return found.hexdigest()


def replace(held: Iterable[Held], others: Iterable[Held], kept: set[int]) -> str | None:
    """Puts other values in place of weights; what stops it in words, and then nothing has changed.

    Args:
        held: of the program; others: of one that was declared in the same way.
        kept: the modules, by identity, whose values are the user's. So are parameters that have been frozen.
    """
    pairs = {name: (owner, value) for name, owner, value in held if id(owner) not in kept}
    drawn = {name: value for name, _, value in others}
    for name, (owner, value) in pairs.items():
        is_rows = isinstance(owner, PerRowTable) and value is owner.rows
        if name not in drawn or (drawn[name].shape != value.shape and not is_rows):
            return f"{name} is not there once more, in the same shape, when it is declared anew"
    with torch.no_grad():
        for name, (owner, value) in pairs.items():
            if isinstance(value, nn.Parameter) and drawn[name].requires_grad and not value.requires_grad:
                continue
            if isinstance(owner, PerRowTable) and value is owner.rows:
                start = drawn[name.removesuffix("rows") + "start"]
                value.copy_(start.to(value).flatten().expand(value.shape))
            else:
                value.copy_(drawn[name])
    return None
