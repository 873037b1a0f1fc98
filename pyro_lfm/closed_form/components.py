"""The components p(x | c) of a declared mixture, read from the model and written back: Gaussians, Bernoullis, factors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pyro_lfm.closed_form.constants import LinearMap, Obstacle, Slot, Spread, constant, obstacle, table
from pyro_lfm.exact.mixtures.bernoullis import Bernoullis
from pyro_lfm.exact.mixtures.full_gaussians import FullGaussians
from pyro_lfm.exact.mixtures.gaussians import DiagonalGaussians
from pyro_lfm.exact.mixtures.mixture import Components, Mixture
from pyro_lfm.exact.mixtures.mixture_of_factors import FactorAnalysers
from pyro_lfm.exact.mixtures.starts import start_bernoullis, start_factors, start_gaussians
from pyro_lfm.families import Bernoulli, Gaussian
from pyro_lfm.sources.lookup import LookupNetwork

# Float64 knows no probability nearer to 1 than this logit's.
_LOGIT = 36.0


class DeclaredComponents(ABC):
    """Where the components of a mixture stand in the model.

    Attributes:
        floor: what has a floor, in words. fields: the names under which ``exact`` fixes parameters -> its fields.
    """

    floor: str | None
    fields: Mapping[str, str]

    @property
    @abstractmethod
    def fixed(self) -> frozenset[str]:
        """The parameters that keep their values."""

    @abstractmethod
    def read(self) -> Components:
        """The components at the model's parameters."""

    @abstractmethod
    def write(self, components: Any) -> None:
        """Puts components into the model; what is fixed stays."""

    @abstractmethod
    def start(self, rows: Iterable[Tensor], classes: int, seed: int, rounds: int) -> Mixture:
        """A mixture made from clusters of the data, after so many rounds of k-means."""

    def keep(self, found: Components) -> Components:
        """The components found, with those parameters that are fixed as they are."""
        now = self.read()
        values = {self.fields[name]: getattr(now, self.fields[name]) for name in self.fixed}
        return replace(found, **values)  # type: ignore[type-var]


@dataclass(frozen=True, eq=False)
class GaussianComponents(DeclaredComponents):
    """``Gaussian(D, mean=Lookup(), covariance=..., given="c")``."""

    means: Slot
    per_class: bool  # one fixed mean for all classes will do, too
    classes: int
    spread: Spread

    @classmethod
    def of(cls, name: str, factor: Any, classes: int) -> GaussianComponents:
        if "network" in factor.parts:
            raise obstacle(name, factor, "mean", "Lookup()")
        part = factor.parts["mean"]
        means = table(part) or constant(part)
        per_class = table(part) is not None
        if means is None or not (per_class or means.fixed):
            raise obstacle(name, factor, "mean", "Lookup()")
        return cls(means, per_class, classes, cls._spread(name, factor))

    @classmethod
    def alone(cls, name: str, factor: Any) -> GaussianComponents:
        """``Gaussian(D)``, the only component: mean and covariance learned or fixed."""
        means = constant(factor.parts["mean"]) if "mean" in factor.parts else None
        if means is None:
            raise obstacle(name, factor, "mean", "a learned or Fixed value")
        return cls(means, False, 1, cls._spread(name, factor))

    @staticmethod
    def _spread(name: str, factor: Any) -> Spread:
        spread = Spread.of(name, factor, tables=True)
        if not spread.slot.fixed and spread.covariance.min_scale == 0:
            raise Obstacle(
                f"{name}.covariance has min_scale=0, and the likelihood of a mixture grows without bound as a "
                "component narrows: a closed form needs min_scale > 0"
            )
        return spread

    @property
    def floor(self) -> str | None:  # type: ignore[override]
        return None if self.spread.slot.fixed else "standard deviations"

    @property
    def fields(self) -> Mapping[str, str]:  # type: ignore[override]
        return {"means": "means", "covariance": "scale_tril" if self.spread.full else "variance"}

    @property
    def fixed(self) -> frozenset[str]:
        slots = {"means": self.means, "covariance": self.spread.slot}
        return frozenset(name for name, slot in slots.items() if slot.fixed)

    def read(self) -> Components:
        means = self.means.read().reshape(self.classes if self.per_class else 1, -1).expand(self.classes, -1)
        if self.spread.full:
            return FullGaussians(means, self.spread.scale_tril(), self.spread.floor())
        return DiagonalGaussians(means, self.spread.variance(), self.spread.floor())

    def write(self, components: Any) -> None:
        self.means.write(components.means)
        if self.spread.slot.fixed:
            return
        if self.spread.full:
            self.spread.write_scale_tril(components.scale_tril)
        else:
            self.spread.write_variance(components.variance)

    def start(self, rows: Iterable[Tensor], classes: int, seed: int, rounds: int) -> Mixture:
        kind = "full" if self.spread.full else "isotropic" if self.spread.isotropic else "diagonal"
        shared = self.spread.copies == 1
        return start_gaussians(
            rows,
            classes,
            seed=seed,
            rounds=rounds,
            covariance=kind,
            shared=shared,
            min_scale=self.spread.floor(),
        )


@dataclass(frozen=True, eq=False)
class BernoulliComponents(DeclaredComponents):
    """``Bernoulli(D, logits=Lookup(), given="c")``."""

    logits: Slot
    classes: int
    floor = None
    fields = {"probs": "probs"}

    @classmethod
    def of(cls, name: str, factor: Any) -> BernoulliComponents:
        part = factor.parts["logits"] if "logits" in factor.parts else None
        slot = table(part) or (None if factor.parents else constant(part))
        if slot is None:
            raise obstacle(name, factor, "logits", "Lookup()")
        return cls(slot, 1 if table(part) is None else len(slot.tensor))

    @property
    def fixed(self) -> frozenset[str]:
        return frozenset({"probs"} if self.logits.fixed else ())

    def read(self) -> Components:
        return Bernoullis(self.logits.read().reshape(self.classes, -1).clamp(-_LOGIT, _LOGIT).sigmoid())

    def write(self, components: Any) -> None:
        self.logits.write(components.logits)

    def start(self, rows: Iterable[Tensor], classes: int, seed: int, rounds: int) -> Mixture:
        return start_bernoullis(rows, classes, seed=seed, rounds=rounds)


@dataclass(frozen=True, eq=False)
class FactorComponents(DeclaredComponents):
    """``Gaussian(D, mean=Lookup(Linear()), covariance=..., given=("c", "z"))``."""

    lines: list[LinearMap]
    spread: Spread

    @classmethod
    def of(cls, name: str, factor: Any) -> FactorComponents:
        part = factor.parts["mean"] if "mean" in factor.parts else None
        lines = [LinearMap.of(net) for net in part.networks] if isinstance(part, LookupNetwork) else [None]
        if not all(lines):
            raise obstacle(name, factor, "mean", "Lookup(Linear())")
        spread = Spread.of(name, factor, tables=True)
        if spread.full:
            raise Obstacle(
                f"{name}.covariance is Full: a closed form of a mixture of factor analysers needs Isotropic or Diagonal"
            )
        if not spread.slot.fixed and spread.covariance.min_scale == 0:
            raise Obstacle(f"{name}.covariance has min_scale=0: a closed form needs min_scale > 0")
        found = [line for line in lines if line]
        if not found[0].weight.fixed and len({id(line.weight.tensor) for line in found}) < len(found):
            raise Obstacle(
                f"{name}.mean is one module for all categories: a closed form needs Lookup(Linear())"
            )
        return cls(found, spread)

    @property
    def floor(self) -> str | None:  # type: ignore[override]
        return None if self.spread.slot.fixed else "standard deviations of the noise"

    @property
    def fields(self) -> Mapping[str, str]:  # type: ignore[override]
        return {"loadings": "loadings", "means": "means", "noise": "noise"}

    @property
    def fixed(self) -> frozenset[str]:
        line = self.lines[0]
        slots = {"loadings": line.weight, "means": line.bias, "noise": self.spread.slot}
        return frozenset(name for name, slot in slots.items() if slot.fixed)

    def read(self) -> Components:
        loadings = torch.stack([line.weight.read() for line in self.lines])
        means = torch.stack([line.bias.read() for line in self.lines])
        return FactorAnalysers(loadings, means, self.spread.variance(), self.spread.floor())

    def write(self, components: Any) -> None:
        for line, loadings, mean in zip(self.lines, components.loadings, components.means, strict=True):
            line.weight.write(loadings)
            line.bias.write(mean)
        if not self.spread.slot.fixed:
            self.spread.write_variance(components.noise)

    def start(self, rows: Iterable[Tensor], classes: int, seed: int, rounds: int) -> Mixture:
        return start_factors(
            rows,
            classes,
            self.lines[0].weight.tensor.shape[1],
            seed=seed,
            rounds=rounds,
            isotropic=self.spread.isotropic,
            shared=self.spread.copies == 1,
            min_scale=self.spread.floor(),
        )


def components_of(name: str, factor: Any, classes: int, with_factors: bool) -> DeclaredComponents:
    """Raises Obstacle where a mixture of such components has no closed form."""
    if with_factors:
        if type(factor.declaration) is not Gaussian:
            wanted = "Gaussian(mean=Lookup(Linear()))"
            raise Obstacle(f"{name} is {factor.describe()}: a closed form needs {wanted}")
        return FactorComponents.of(name, factor)
    if type(factor.declaration) is Gaussian:
        return GaussianComponents.of(name, factor, classes)
    if type(factor.declaration) is Bernoulli:
        return BernoulliComponents.of(name, factor)
    raise Obstacle(
        f"{name} is {factor.describe()}: a closed form needs Gaussian(mean=Lookup()) or Bernoulli(logits=Lookup())"
    )
