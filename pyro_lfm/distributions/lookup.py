"""Sources that hold one of each thing per category of a categorical parent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn

from pyro_lfm.distributions.sources import Fixed, Learned, network
from pyro_lfm.errors import DeclarationError, ShapeError


@dataclass(frozen=True, eq=False)
class Lookup:
    """One value, or one network of the other parents, for each category of the factor's categorical parent.

    Args:
        of: ``Learned(init)`` (the default) or ``Fixed(value)``, natural values of shape (C, ...) or broadcast to it; or a
            network source such as ``Linear()``, built once per category and read with the other parents.

    >>> from pyro_lfm import Categorical, Full, Gaussian, Model
    >>> mixture = Model(
    ...     c=Categorical(3), x=Gaussian(2, mean=Lookup(), covariance=Full(Lookup()), given="c")
    ... )
    >>> mixture.factors["x"](torch.tensor([0, 2])).mean.shape
    torch.Size([2, 2])
    """

    of: Any = None

    def __repr__(self) -> str:
        return f"Lookup({'' if self.of is None else repr(self.of)})"


class LookupTable(nn.Module):
    """Raw parameters (C, *shape), read by category."""

    def __init__(self, values: torch.Tensor, learned: bool, position: int):
        super().__init__()
        self.position = position
        if learned:
            self.values = nn.Parameter(values)
        else:
            self.register_buffer("values", values)

    def forward(self, context: torch.Tensor, index: torch.Tensor | None = None) -> torch.Tensor:
        code = context[..., self.position : self.position + len(self.values)].to(self.values.dtype)
        return torch.tensordot(code, self.values, 1)


class LookupNetwork(nn.Module):
    """One network per category of the other parents' values; the row's category picks whose output counts."""

    def __init__(self, networks: Sequence[nn.Module], position: int):
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.position = position

    def forward(self, context: torch.Tensor, index: torch.Tensor | None = None) -> torch.Tensor:
        end = self.position + len(self.networks)
        code = context[..., self.position : end]
        rest = torch.cat([context[..., : self.position], context[..., end:]], -1)
        outputs = torch.stack([net(rest) for net in self.networks], rest.dim() - 1)
        code = code.reshape(*code.shape, *(1,) * (outputs.dim() - code.dim())).to(outputs.dtype)
        return (code * outputs).sum(rest.dim() - 1)


def lookup(
    source: Lookup,
    parents: Sequence[Any],
    shape: torch.Size,
    start: torch.Tensor,
    what: str,
    to_raw: Callable[[torch.Tensor], torch.Tensor],
) -> nn.Module:
    """The module of a ``Lookup``; ``parents`` are the factor's, one of them categorical."""
    categorical = [k for k, parent in enumerate(parents) if parent.categories is not None]
    if len(categorical) != 1:
        names = ", ".join(parent.name for parent in parents) or "no parents"
        raise DeclarationError(
            f'{what} is a Lookup, which needs exactly one categorical parent, as in given="c"; it has {names}'
        )
    k = categorical[0]
    categories = parents[k].categories
    sizes = [prod(parent.code_shape) for parent in parents]
    position = sum(sizes[:k])
    if source.of is not None and not isinstance(source.of, Learned | Fixed):
        rest = torch.Size((sum(sizes) - categories,))
        if not rest[0]:
            raise DeclarationError(f"{what}: a Lookup of networks needs another parent that they read")
        return LookupNetwork([network(source.of, [rest], shape, what) for _ in range(categories)], position)
    value = None if source.of is None else source.of.tensor()
    if value is None:
        # Categories that start alike stay alike, so locations (which start at zero) are spread; scales need not be.
        spread = 0.0 if bool(start.any()) else 1.0
        return LookupTable(start + spread * torch.randn(categories, *shape), True, position)
    if value.dim() == 0 or len(value) != categories:
        value = value.expand(categories, *value.shape)
    raw = torch.stack([to_raw(one) for one in value])
    try:
        raw = raw.expand(categories, *shape).clone()
    except RuntimeError:
        message = f"{what} must broadcast to shape {(categories, *shape)}; got {tuple(value.shape)}"
        raise ShapeError(message) from None
    return LookupTable(raw, isinstance(source.of, Learned), position)
