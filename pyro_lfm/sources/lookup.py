"""Sources that hold one of each thing per category of a categorical parent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn

from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.sources.drawn import Drawn, Stochastic
from pyro_lfm.sources.networks import network
from pyro_lfm.sources.parameter_priors import Beta, Normal
from pyro_lfm.sources.sources import Fixed, Learned, flat_rows


@dataclass(frozen=True, eq=False)
class Lookup:
    """One value, or one network of the other parents, for each category of the factor's categorical parent.

    Args:
        of: ``Learned(init)`` (the default) or ``Fixed(value)``, natural values of shape (C, ...) or broadcast to it; or a
            network source such as ``Linear()``, built once per category and read with the other parents.
        prior: instead, of the values: ``Beta`` (of probabilities) for a Bernoulli's logits, ``Normal`` for a mean.

    >>> from pyro_lfm import Categorical, Full, Gaussian, Model
    >>> mixture = Model(
    ...     c=Categorical(3), x=Gaussian(2, mean=Lookup(), covariance=Full(Lookup()), given="c")
    ... )
    >>> mixture.factors["x"](torch.tensor([0, 2])).mean.shape
    torch.Size([2, 2])
    """

    of: Any = None
    prior: Normal | Beta | None = None

    def __post_init__(self) -> None:
        if self.prior is None:
            return
        if not isinstance(self.prior, Normal | Beta):
            raise DeclarationError(
                f"prior of Lookup must be lfm.parameter_priors.Normal() or lfm.parameter_priors.Beta(); got {self.prior!r}"
            )
        if self.of is not None:
            raise DeclarationError("values of a Lookup have a source or a prior, not both")

    def drawn(self, parameter: str) -> Any:
        """The source of the values: as given, or drawn from their prior."""
        if isinstance(self.prior, Beta):
            return Stochastic("probs", self.prior, self.prior.distribution, to_raw=torch.logit)
        if self.prior is not None:
            return Stochastic(parameter, self.prior, self.prior.distribution, located=True)
        return self.of

    def __repr__(self) -> str:
        if self.prior is not None:
            return f"Lookup({self.prior!r})"
        return f"Lookup({'' if self.of is None else repr(self.of)})"


class LookupTable(nn.Module):
    """Raw parameters (C, *shape), read by category."""

    values: Any

    def __init__(self, values: torch.Tensor | Drawn, learned: bool, position: int):
        super().__init__()
        self.position = position
        if isinstance(values, Drawn):
            self.values = values
            self.categories, self.events = len(values.value), values.value.dim() - 1
            return
        self.categories, self.events = len(values), values.dim() - 1
        if learned:
            self.values = nn.Parameter(values)
        else:
            self.register_buffer("values", values)

    def forward(self, context: torch.Tensor, index: torch.Tensor | None = None) -> torch.Tensor:
        values = self.values() if isinstance(self.values, Drawn) else self.values
        code = context[..., self.position : self.position + self.categories].to(values.dtype)
        if values.dim() == 1 + self.events:
            return torch.tensordot(code, values, 1)
        # Draws of the values, (..., 1, C, *shape).
        shape = values.shape[values.dim() - self.events :]
        flat = flat_rows(values.reshape(*values.shape[: -self.events or None], shape.numel()), 2)
        picked = code @ flat
        return picked.reshape(*picked.shape[:-1], *shape)


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
    of = source.drawn(what.split(".")[-1])
    if isinstance(of, Stochastic) and len(parents) == 1:
        point = _apart(start, categories, shape)
        if isinstance(source.prior, Beta):
            point = 0.25 + 0.5 * torch.rand(categories, *shape)
        return LookupTable(of.build(point), False, position)
    if of is not None and not isinstance(of, Learned | Fixed | Stochastic):
        rest = torch.Size((sum(sizes) - categories,))
        if not rest[0]:
            raise DeclarationError(f"{what}: a Lookup of networks needs another parent that they read")
        return LookupNetwork([network(source.of, [rest], shape, what) for _ in range(categories)], position)
    value = None if source.of is None else source.of.tensor()
    if value is None:
        return LookupTable(_apart(start, categories, shape), True, position)
    if value.dim() == 0 or len(value) != categories:
        value = value.expand(categories, *value.shape)
    raw = torch.stack([to_raw(one) for one in value])
    try:
        raw = raw.expand(categories, *shape).clone()
    except RuntimeError:
        message = f"{what} must broadcast to shape {(categories, *shape)}; got {tuple(value.shape)}"
        raise ShapeError(message) from None
    return LookupTable(raw, isinstance(source.of, Learned), position)


def _apart(start: torch.Tensor, categories: int, shape: torch.Size) -> torch.Tensor:
    """One start for each category: alike they would stay alike, so locations (zero) are spread; scales need not be."""
    spread = 0.0 if bool(start.any()) else 1.0
    return start + spread * torch.randn(categories, *shape)
