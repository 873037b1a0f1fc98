"""The components of a declared mixture of factor analysers: loadings, means and noise for each class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.closed_form.mixtures.components import DeclaredComponents
from pyro_lfm.closed_form.obstacles import Obstacle, source_obstacle
from pyro_lfm.closed_form.parts import LinearMap, Spread
from pyro_lfm.exact.mixtures.mixture import Mixture
from pyro_lfm.exact.mixtures.mixture_of_factors import FactorAnalysers
from pyro_lfm.exact.mixtures.starts import start_factors
from pyro_lfm.factors import Conditional
from pyro_lfm.sources.lookup import LookupNetwork


@dataclass(frozen=True, eq=False)
class AnalyserComponents(DeclaredComponents[FactorAnalysers]):
    """``Gaussian(D, mean=Lookup(Linear()), covariance=..., given=("c", "z"))``."""

    lines: Sequence[LinearMap]
    spread: Spread

    @classmethod
    def of(cls, name: str, factor: Conditional) -> AnalyserComponents:
        """The components of a factor that reads class and factors; raises Obstacle where they have no closed form."""
        part = factor.parts["mean"] if "mean" in factor.parts else None
        maps = [LinearMap.of(net) for net in part.networks] if isinstance(part, LookupNetwork) else [None]
        lines = [line for line in maps if line is not None]
        if len(lines) < len(maps):
            raise source_obstacle(name, factor, "mean", "Lookup(Linear())")
        spread = Spread.of(name, factor, tables=True)
        if spread.full:
            raise Obstacle(
                f"{name}.covariance is Full: a closed form of a mixture of factor analysers needs Isotropic or Diagonal"
            )
        if spread.may_vanish:
            raise Obstacle(f"{name}.covariance has min_scale=0: a closed form needs min_scale > 0")
        if not lines[0].weight.fixed and len({id(line.weight.tensor) for line in lines}) < len(lines):
            raise Obstacle(
                f"{name}.mean is one module for all categories: a closed form needs Lookup(Linear())"
            )
        return cls(lines, spread)

    @property
    def floor(self) -> str | None:
        return None if self.spread.slot.fixed else "standard deviations of the noise"

    @property
    def field_names(self) -> Mapping[str, str]:
        return {"loadings": "loadings", "means": "means", "noise": "noise"}

    @property
    def fixed(self) -> frozenset[str]:
        line = self.lines[0]
        slots = {"loadings": line.weight, "means": line.bias, "noise": self.spread.slot}
        return frozenset(name for name, slot in slots.items() if slot.fixed)

    def read(self) -> FactorAnalysers:
        loadings = torch.stack([line.weight.read() for line in self.lines])
        means = torch.stack([line.bias.read() for line in self.lines])
        return FactorAnalysers(loadings, means, self.spread.variance(), self.spread.floor())

    def write(self, components: FactorAnalysers) -> None:
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
