"""The model's prior of a latent as a part of a guide's factor. ``GaussianMessage`` uses it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors.conditional import Deterministic, PyroProgram
from pyro_lfm.factors.named_modules import Factors
from pyro_lfm.factors.variables import Variable
from pyro_lfm.factors.views import view
from pyro_lfm.factors.wiring import distribution_of


class ModelOfPriors(Protocol):
    """The part of the interface of a declared model that ``PriorOfLatent`` uses."""

    factors: Factors
    given: Mapping[str, tuple[str, ...]]

    @property
    def wiring(self) -> Mapping[str, tuple[str, ...]]: ...

    @property
    def covariates(self) -> Sequence[str]: ...

    @property
    def variables(self) -> Mapping[str, Variable]: ...


class PriorOfLatent(nn.Module):
    """The model's prior of one latent, sharing its parameters, with the deterministic factors that it reads.

    Args:
        model: a declared model.
        name: the name of the latent.

    Raises:
        DeclarationError: the model does not declare this prior as a factor.
    """

    def __init__(self, model: ModelOfPriors, name: str):
        super().__init__()
        if name not in getattr(model, "given", ()):
            raise DeclarationError(
                f"{name}: a message multiplies the prior of a declared factor: use lfm.Gaussian"
            )
        self.name, self.reads = name, model.wiring[name]
        self.factors = Factors()
        self.given: dict[str, tuple[str, ...]] = {}
        self._hold(model, name)

    def _hold(self, model: ModelOfPriors, name: str) -> None:
        self.factors[name], self.given[name] = model.factors[name], model.given[name]
        for parent in model.given[name]:
            if isinstance(model.factors[parent], Deterministic):
                self._hold(model, parent)

    def variables(self, model: ModelOfPriors) -> Iterator[Variable]:
        """The variables that the prior reads."""
        return (model.variables[name] for name in self.reads)

    def bound_to(self, model: PyroProgram) -> PriorOfLatent:
        """The prior of the same latent in another model; itself where it is already that of the model."""
        held = getattr(model, "factors", {})
        others = {n: held[n] for n, factor in self.factors.items() if n in held and held[n] is not factor}
        if not others:
            return self
        factors = view(self.factors)
        for name, factor in others.items():
            factors[name] = factor
        return view(self, factors=factors)

    def distribution(self, values: Mapping[str, Tensor], index: torch.Tensor) -> Distribution:
        """The prior, given the values of the variables that it reads; further values are ignored."""
        return distribution_of(self.factors, self.given, self.name, values, index)
