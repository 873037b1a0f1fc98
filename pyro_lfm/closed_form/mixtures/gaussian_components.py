"""Gaussian components of a declared mixture, and a Gaussian baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from pyro_lfm.closed_form.mixtures.components import DeclaredComponents
from pyro_lfm.closed_form.obstacles import Obstacle, source_obstacle
from pyro_lfm.closed_form.parts import Slot, Spread, constant, table
from pyro_lfm.exact.mixtures.full_gaussians import FullGaussians
from pyro_lfm.exact.mixtures.gaussians import DiagonalGaussians
from pyro_lfm.exact.mixtures.mixture import Mixture
from pyro_lfm.exact.mixtures.starts import start_gaussians
from pyro_lfm.factors import Conditional


@dataclass(frozen=True, eq=False)
class GaussianComponents(DeclaredComponents[FullGaussians | DiagonalGaussians]):
    """``Gaussian(D, mean=Lookup(), covariance=..., given="c")``.

    Attributes:
        means: one for each class where ``per_class``, else one fixed mean for all.
    """

    means: Slot
    per_class: bool
    classes: int
    spread: Spread

    @classmethod
    def of(cls, name: str, factor: Conditional, classes: int) -> GaussianComponents:
        """The components of a factor that reads the class; raises Obstacle where they have no closed form."""
        if "network" in factor.parts:
            raise source_obstacle(name, factor, "mean", "Lookup()")
        part = factor.parts["mean"]
        means = table(part) or constant(part)
        per_class = table(part) is not None
        if means is None or not (per_class or means.fixed):
            raise source_obstacle(name, factor, "mean", "Lookup()")
        return cls(means, per_class, classes, _floored_spread(name, factor))

    @classmethod
    def alone(cls, name: str, factor: Conditional) -> GaussianComponents:
        """``Gaussian(D)``, the only component, whose mean and covariance are learned or fixed."""
        means = constant(factor.parts["mean"]) if "mean" in factor.parts else None
        if means is None:
            raise source_obstacle(name, factor, "mean", "a learned or Fixed value")
        return cls(means, False, 1, _floored_spread(name, factor))

    @property
    def floor(self) -> str | None:
        return None if self.spread.slot.fixed else "standard deviations"

    @property
    def field_names(self) -> Mapping[str, str]:
        return {"means": "means", "covariance": "scale_tril" if self.spread.full else "variance"}

    @property
    def fixed(self) -> frozenset[str]:
        slots = {"means": self.means, "covariance": self.spread.slot}
        return frozenset(name for name, slot in slots.items() if slot.fixed)

    def read(self) -> FullGaussians | DiagonalGaussians:
        means = self.means.read().reshape(self.classes if self.per_class else 1, -1).expand(self.classes, -1)
        if self.spread.full:
            return FullGaussians(means, self.spread.scale_tril(), self.spread.floor())
        return DiagonalGaussians(means, self.spread.variance(), self.spread.floor())

    def write(self, components: FullGaussians | DiagonalGaussians) -> None:
        self.means.write(components.means)
        if self.spread.slot.fixed:
            return
        if isinstance(components, FullGaussians):
            self.spread.write_scale_tril(components.scale_tril)
        else:
            self.spread.write_variance(components.variance)

    def start(self, rows: Iterable[Tensor], classes: int, seed: int, rounds: int) -> Mixture:
        return start_gaussians(
            rows,
            classes,
            seed=seed,
            rounds=rounds,
            covariance=self.spread.structure,
            shared=self.spread.copies == 1,
            min_scale=self.spread.floor(),
        )


def _floored_spread(name: str, factor: Conditional) -> Spread:
    spread = Spread.of(name, factor, tables=True)
    if spread.may_vanish:
        raise Obstacle(
            f"{name}.covariance has min_scale=0, and the likelihood of a mixture grows without bound as a "
            "component narrows: a closed form needs min_scale > 0"
        )
    return spread
