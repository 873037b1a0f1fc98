"""Initial weights of models and guides: whether a program still has them, and drawing them from a seed.

``Program`` keeps a digest of its initial weights. If they are unchanged, ``fit`` draws new ones from its seed.
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

# The name of a tensor, the module that holds it, and the tensor.
Held = tuple[str, nn.Module, torch.Tensor]


@contextmanager
def drawing(seed: int, what: str) -> Iterator[None]:
    """A context in which the random numbers of torch, Python and NumPy follow from a seed.

    Args:
        what: the program, as in "model". The weights of model and guide and the noise of the fit are independent.

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
    """All parameters and buffers, each once, with the module that holds it."""
    seen: set[int] = set()
    for path, part in module.named_modules(prefix=prefix):
        for held in (part._parameters, part._buffers):
            for name, value in held.items():
                if value is not None and id(value) not in seen:
                    seen.add(id(value))
                    yield f"{path}.{name}" if path else name, part, value


def digest_of(held: Iterable[Held]) -> str:
    """A digest of weights. It does not depend on the device, nor on the floating type if that is exact.

    Of a ``PerRow`` table only rows that differ from their start count. Buffers of torch's layers are left out: they are
    statistics of the data, not weights.
    """
    digest = hashlib.blake2b(digest_size=16)
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
        digest.update(f"{name} {tuple(numbers.shape)} ".encode())
        digest.update(numbers.numpy().tobytes())
    return digest.hexdigest()


def replace(held: Iterable[Held], others: Iterable[Held], kept: set[int]) -> str | None:
    """Replaces the weights of a program by those of another one with the same declaration.

    Args:
        held: the tensors of the program.
        others: the tensors of the other program.
        kept: ids of modules that the user gave, whose weights stay. Frozen parameters stay too.

    Returns:
        None, or the reason why the weights cannot be replaced. Then nothing has changed.
    """
    pairs = {name: (owner, value) for name, owner, value in held if id(owner) not in kept}
    drawn = {name: value for name, _, value in others}
    for name, (owner, value) in pairs.items():
        is_rows = isinstance(owner, PerRowTable) and value is owner.rows
        if name not in drawn or (drawn[name].shape != value.shape and not is_rows):
            return f"{name} is missing, or has another shape, when it is declared again"
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
