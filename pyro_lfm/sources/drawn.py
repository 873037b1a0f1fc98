"""Parameters that have priors: drawn by the model, and a point value where they are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def _same(value: Tensor) -> Tensor:
    return value


class Drawn(torch.nn.Module):
    """A parameter with a prior. Where no draw is put in its place it has its point value.

    Args:
        name: what it is called in its factor.
        value: the point, natural: where guides start, and once fitted the posterior mean.
        distribution: ``distribution(like, *read)``, its prior.
        reads: names of the parameters that its prior depends on.
        to_raw: from the natural value to what the factor computes with.
        used: whether the factor computes with it, or only other priors read it.
        of_rows: whether its rows, and not its last entries, belong to the entries of the variable: as those of W.
        located: whether it says where the variable lies, as a mean or a bias does, so that its prior has an origin.
    """

    # The point, which a fit puts at the posterior mean.
    moved_by_fits = ("value",)
    value: Tensor
    unit: Tensor
    origin: Tensor

    def __init__(
        self,
        name: str,
        value: Tensor,
        distribution: Callable[..., Any],
        reads: tuple[str, ...] = (),
        to_raw: Callable[[Tensor], Tensor] = _same,
        used: bool = True,
        of_rows: bool = False,
        located: bool = False,
    ):
        super().__init__()
        self.name, self.distribution, self.reads, self.to_raw, self.used = (
            name,
            distribution,
            reads,
            to_raw,
            used,
        )
        self.of_rows, self.located = of_rows, located
        self.register_buffer("value", value.detach().clone())
        self.register_buffer("unit", torch.ones((), dtype=value.dtype))
        self.register_buffer("origin", torch.zeros((), dtype=value.dtype))

    def measure(self, unit: Tensor, origin: Tensor) -> None:
        """Takes the units and the means of the entries of the data that it is about."""
        self.unit = self._laid_out(unit.to(self.unit))
        if self.located:
            self.origin = self._laid_out(origin.to(self.origin))

    def _laid_out(self, entries: Tensor) -> Tensor:
        if self.of_rows:
            return entries.flatten().unsqueeze(-1)
        return entries.flatten() if self.value.dim() < entries.dim() else entries

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("unit", "origin"):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]).to(self.unit))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @property
    def declared(self) -> Any:
        """The prior as it was declared, such as ``Gamma(shape=1.0, rate=1.0)``."""
        return self.distribution.__self__  # type: ignore[attr-defined]

    def prior(self, values: dict[str, Tensor]) -> Any:
        """The prior, given the parameters that it reads, by name."""
        read = (values[name] for name in self.reads)
        if getattr(getattr(self.distribution, "__self__", None), "relative", False):
            origin = {"origin": self.origin} if self.located else {}
            return self.distribution(self.value, *read, unit=self.unit, **origin)
        return self.distribution(self.value, *read)

    def forward(self, context: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        return self.to_raw(self.value)


@dataclass(frozen=True, eq=False)
class Stochastic:
    """The source of a parameter with a prior, for a family to declare; see ``Drawn``. start: its point, or None."""

    name: str
    prior: Any
    distribution: Callable[..., Any]
    start: float | None = None
    reads: tuple[str, ...] = ()
    to_raw: Callable[[Tensor], Tensor] = _same
    located: bool = False

    def build(self, start: Tensor) -> Drawn:
        value = start if self.start is None else torch.full_like(start, self.start)
        return Drawn(self.name, value, self.distribution, self.reads, self.to_raw, located=self.located)

    def __repr__(self) -> str:
        return repr(self.prior)
