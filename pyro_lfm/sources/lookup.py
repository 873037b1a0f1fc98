"""The source that has a value, or a network, for each category of a categorical parent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.sources.declared_values import DeclaredValues
from pyro_lfm.sources.drawn import Drawn, Stochastic, flat_rows
from pyro_lfm.sources.parameter_priors import Beta, Normal
from pyro_lfm.sources.source import Parameter, Source, SourceLike, as_source
from pyro_lfm.sources.values import Learned, Value


@dataclass(eq=False, repr=False)
class Lookup(Source):
    """One value, or one network of the other parents, for each category of the factor's categorical parent.

    Args:
        of: ``Learned(init)`` (the default) or ``Fixed(value)``, natural values that broadcast to (C, ...), or a network
            source such as ``Linear()``, which is built for each category and reads the other parents.
        prior: a prior of the values, without ``of``: ``Beta`` of probabilities for logits, ``Normal`` for a mean.

    Use it for mixtures, and for effects of a known category such as a batch.

    Limits: a category without rows keeps its start, or its prior.

    Source: McLachlan and Peel (2000), "Finite mixture models", section 1.4.

    >>> import pyro_lfm as lfm
    >>> mixture = lfm.Model(
    ...     c=lfm.Categorical(3), x=lfm.Gaussian(2, mean=lfm.Lookup(), covariance=lfm.Full(lfm.Lookup()), given="c")
    ... )
    >>> mixture.factors["x"](torch.tensor([0, 2])).mean.shape
    torch.Size([2, 2])
    """

    of: SourceLike = None
    prior: Normal | Beta | None = None

    def __post_init__(self) -> None:
        if self.prior is None:
            return
        if not isinstance(self.prior, Normal | Beta):
            raise DeclarationError(
                "prior of Lookup must be lfm.parameter_priors.Normal() or lfm.parameter_priors.Beta(); "
                f"got {self.prior!r}"
            )
        if self.of is not None:
            raise DeclarationError("values of a Lookup have a source or a prior, not both")

    @property
    def has_value(self) -> bool:
        return isinstance(self.of, Value) and self.of.has_value

    def with_values_from(self, source: Stochastic) -> Lookup:
        """The same table with values drawn from a prior."""
        return self.altered(of=source)

    def module_for(self, parameter: Parameter) -> nn.Module:
        parents = parameter.parents
        categorical = [k for k, parent in enumerate(parents) if parent.categories is not None]
        if len(categorical) != 1:
            names = ", ".join(parent.name for parent in parents) or "no parents"
            raise DeclarationError(
                f'{parameter.name} is a Lookup, which needs exactly one categorical parent, as in given="c"; it has {names}'
            )
        sizes = [prod(parent.code_shape) for parent in parents]
        categories, position = sizes[categorical[0]], sum(sizes[: categorical[0]])
        if self.prior is not None or isinstance(self.of, Stochastic):
            if len(parents) > 1:
                raise DeclarationError(f"{parameter.name}: a Lookup with a prior reads its category alone")
            return LookupTable(self._drawn(parameter, categories), False, position)
        if self.of is None or isinstance(self.of, Value):
            values = self.of or Learned()
            raw = _raw_values(values, parameter, categories)
            dtype = values.dtype if values.has_value else raw.dtype
            return LookupTable(raw, values.is_learned, position, dtype)
        rest = torch.Size((sum(sizes) - categories,))
        if not rest[0]:
            raise DeclarationError(
                f"{parameter.name}: a Lookup of networks needs another parent that they read"
            )
        apart = Parameter(parameter.name, parameter.shape, parameter.start, [_Others(rest)])
        networks = [_network_source(self.of, parameter.name).module_for(apart) for _ in range(categories)]
        return LookupNetwork(networks, position)

    def _drawn(self, parameter: Parameter, categories: int) -> Drawn:
        if isinstance(self.prior, Beta):
            probs = Stochastic("probs", self.prior, self.prior.distribution, to_raw=torch.logit)
            return probs.at(0.25 + 0.5 * torch.rand(categories, *parameter.shape))
        if isinstance(self.prior, Normal):
            name = parameter.name.split(".")[-1]
            source = Stochastic(name, self.prior, self.prior.distribution, located=True)
        else:
            assert isinstance(self.of, Stochastic)
            source = self.of
        return source.at(_apart(parameter.start, categories, parameter.shape))


@dataclass(frozen=True)
class _Others:
    """All parents except the categorical one, concatenated."""

    code_shape: torch.Size
    name: str = "the other parents"
    categories: None = None


def _network_source(given: SourceLike, name: str) -> Source:
    source = as_source(given)
    if source is None or not source.reads_parents or isinstance(source, Lookup):
        raise DeclarationError(
            f"{name}: a Lookup holds values, or networks of the other parents; got {given!r}"
        )
    return source


class LookupTable(DeclaredValues):
    """A table of raw parameters (C, *shape), indexed by category."""

    values: nn.Parameter | Tensor | Drawn

    def __init__(
        self, values: Tensor | Drawn, learned: bool, position: int, dtype: torch.dtype | None = None
    ):
        super().__init__()
        self.position = position
        if isinstance(values, Drawn):
            self.values = values
            self.categories, self.events = len(values.value), values.value.dim() - 1
            return
        self.categories, self.events = len(values), values.dim() - 1
        self.declare("values", values, dtype or values.dtype, learned)

    def forward(self, context: Tensor, index: Tensor | None = None) -> Tensor:
        values = self.values() if isinstance(self.values, Drawn) else self.values
        code = context[..., self.position : self.position + self.categories].to(values.dtype)
        if values.dim() == 1 + self.events:
            of_category: Tensor = torch.tensordot(code, values, 1)
            return of_category
        # Draws of the values, (..., 1, C, *shape).
        shape = values.shape[values.dim() - self.events :]
        flat = flat_rows(values.reshape(*values.shape[: -self.events or None], shape.numel()), 2)
        picked = code @ flat
        return picked.reshape(*picked.shape[:-1], *shape)


class LookupNetwork(nn.Module):
    """One network of the other parents for each category. The category of a row selects the output."""

    def __init__(self, networks: Sequence[nn.Module], position: int):
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.position = position

    def forward(self, context: Tensor, index: Tensor | None = None) -> Tensor:
        end = self.position + len(self.networks)
        code = context[..., self.position : end]
        rest = torch.cat([context[..., : self.position], context[..., end:]], -1)
        outputs = torch.stack([net(rest) for net in self.networks], rest.dim() - 1)
        code = code.reshape(*code.shape, *(1,) * (outputs.dim() - code.dim())).to(outputs.dtype)
        return (code * outputs).sum(rest.dim() - 1)


def _raw_values(source: Value, parameter: Parameter, categories: int) -> Tensor:
    """The raw values (C, *shape) of a source of natural values."""
    value = source.tensor()
    if value is None:
        return _apart(parameter.start, categories, parameter.shape)
    if value.dim() and len(value) != categories:
        value = value.expand(categories, *value.shape)
    raw = torch.stack([parameter.to_raw(one) for one in value]) if value.dim() else parameter.to_raw(value)
    try:
        return raw.expand(categories, *parameter.shape).clone()
    except RuntimeError:
        raise ShapeError(
            f"{parameter.name} must broadcast to shape {(categories, *parameter.shape)}; got {tuple(value.shape)}"
        ) from None


def _apart(start: Tensor, categories: int, shape: torch.Size) -> Tensor:
    """A start for each category. Locations (zeros) start at random, as equal ones would stay equal. Scales start equal."""
    spread = 0.0 if bool(start.any()) else 1.0
    return start + spread * torch.randn(categories, *shape)
