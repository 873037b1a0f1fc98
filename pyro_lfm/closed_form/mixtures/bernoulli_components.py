"""Bernoulli components of a declared mixture, and a Bernoulli baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from pyro_lfm.closed_form.mixtures.components import DeclaredComponents
from pyro_lfm.closed_form.obstacles import source_obstacle
from pyro_lfm.closed_form.parts import Slot, constant, table
from pyro_lfm.exact.mixtures.bernoullis import Bernoullis
from pyro_lfm.exact.mixtures.mixture import Mixture
from pyro_lfm.exact.mixtures.starts import start_bernoullis
from pyro_lfm.factors import Conditional

# In float64 the probability of a larger logit is 1.
_LOGIT = 36.0


@dataclass(frozen=True, eq=False)
class BernoulliComponents(DeclaredComponents[Bernoullis]):
    """``Bernoulli(D, logits=Lookup(), given="c")``."""

    logits: Slot
    classes: int

    @classmethod
    def of(cls, name: str, factor: Conditional, classes: int) -> BernoulliComponents:
        """The components of a factor that reads the class; raises Obstacle where they have no closed form."""
        logits = table(_logits(factor))
        if logits is None:
            raise source_obstacle(name, factor, "logits", "Lookup()")
        return cls(logits, classes)

    @classmethod
    def alone(cls, name: str, factor: Conditional) -> BernoulliComponents:
        """``Bernoulli(D)``, the only component, whose logits are learned or fixed."""
        logits = constant(_logits(factor))
        if logits is None:
            raise source_obstacle(name, factor, "logits", "a learned or Fixed value")
        return cls(logits, 1)

    @property
    def floor(self) -> None:
        return None

    @property
    def field_names(self) -> Mapping[str, str]:
        return {"probs": "probs"}

    @property
    def fixed(self) -> frozenset[str]:
        return frozenset({"probs"} if self.logits.fixed else ())

    def read(self) -> Bernoullis:
        return Bernoullis(self.logits.read().reshape(self.classes, -1).clamp(-_LOGIT, _LOGIT).sigmoid())

    def write(self, components: Bernoullis) -> None:
        self.logits.write(components.logits)

    def start(self, rows: Iterable[Tensor], classes: int, seed: int, rounds: int) -> Mixture:
        return start_bernoullis(rows, classes, seed=seed, rounds=rounds)


def _logits(factor: Conditional) -> nn.Module | None:
    return factor.parts["logits"] if "logits" in factor.parts else None
