"""Parameters that have priors: the model draws them, and outside a run they have a point value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_lfm.declarations import Part
from pyro_lfm.sources.source import Parameter, Source, unchanged

# The method of a declared prior that gives the distribution of a parameter: (like, *read, unit=, origin=).
PriorMethod = Callable[..., Distribution]


class Drawn(nn.Module):
    """A parameter with a prior. Without a draw it has its point value.

    Args:
        name: the name of the parameter in its factor.
        value: its natural point value. Guides start there, and a fit sets it to the posterior mean.
        distribution: its prior, a method ``(like, *read, unit=)`` of a declared prior, also with ``origin=`` if located.
        reads: the names of the parameters that its prior depends on.
        to_raw: the map from the natural value to the raw value of the factor.
        used: whether the factor uses it, rather than only other priors.
        of_rows: whether its rows, not its last dimensions, belong to the entries of the variable, like the rows of W.
        located: whether it is a location of the variable, such as a mean or a bias, so that its prior has an origin.
    """

    # The point value, which a fit sets to the posterior mean.
    moved_by_fits = ("value",)
    value: Tensor
    unit: Tensor
    origin: Tensor

    def __init__(
        self,
        name: str,
        value: Tensor,
        distribution: PriorMethod,
        reads: tuple[str, ...] = (),
        to_raw: Callable[[Tensor], Tensor] = unchanged,
        used: bool = True,
        of_rows: bool = False,
        located: bool = False,
    ):
        super().__init__()
        self.name, self.distribution, self.reads = name, distribution, reads
        self.to_raw, self.used = to_raw, used
        self.of_rows, self.located = of_rows, located
        self.register_buffer("value", value.detach().clone())
        self.register_buffer("unit", torch.ones((), dtype=value.dtype))
        self.register_buffer("origin", torch.zeros((), dtype=value.dtype))

    def measure(self, unit: Tensor, origin: Tensor) -> None:
        """Sets the unit and the origin of the prior from the spreads and the means of the columns of the data."""
        self.unit = self._laid_out(unit.to(self.unit))
        if self.located:
            self.origin = self._laid_out(origin.to(self.origin))

    def _laid_out(self, entries: Tensor) -> Tensor:
        if self.of_rows:
            return entries.flatten().unsqueeze(-1)
        return entries.flatten() if self.value.dim() < entries.dim() else entries

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        for name in ("unit", "origin"):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]).to(self.unit))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @property
    def declared(self) -> Part:
        """The declared prior, such as ``parameter_priors.Gamma(1.0, 1.0)``."""
        return self.distribution.__self__  # type: ignore[attr-defined, no-any-return]

    def prior(self, values: Mapping[str, Tensor]) -> Distribution:
        """The prior, given by name the values of the parameters that it reads."""
        origin = {"origin": self.origin} if self.located else {}
        return self.distribution(self.value, *(values[name] for name in self.reads), unit=self.unit, **origin)

    def forward(self, context: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        return self.to_raw(self.value)


@dataclass(eq=False, repr=False)
class Stochastic(Source):
    """The source of a parameter with a prior, which a family creates from a declared prior; see ``Drawn``.

    Args:
        prior: the declared prior.
        point: the natural value at which guides start; by default that of the family.
    """

    name: str
    prior: Part
    distribution: PriorMethod
    point: float | None = None
    reads: tuple[str, ...] = ()
    to_raw: Callable[[Tensor], Tensor] = unchanged
    located: bool = False

    def module_for(self, parameter: Parameter) -> Drawn:
        return self.at(parameter.start)

    def at(self, start: Tensor) -> Drawn:
        """The parameter, with the point value ``point`` or, by default, ``start``."""
        value = start if self.point is None else torch.full_like(start, self.point)
        return Drawn(self.name, value, self.distribution, self.reads, self.to_raw, located=self.located)

    @property
    def reads_parents(self) -> bool:
        return False

    def __repr__(self) -> str:
        return repr(self.prior)


def flat_rows(value: Tensor, events: int) -> Tensor:
    """A drawn parameter (..., 1, *event) without its dimension for rows, for products with (..., B, n)."""
    return value if value.dim() == events else value.squeeze(-events - 1)
