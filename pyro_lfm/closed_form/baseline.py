"""Models without latents: one distribution of the rows, the baseline of what latents explain."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from pyro_lfm.closed_form.components import BernoulliComponents, DeclaredComponents, GaussianComponents
from pyro_lfm.closed_form.constants import Obstacle
from pyro_lfm.closed_form.form import Distribution
from pyro_lfm.closed_form.mixtures import MixtureForm
from pyro_lfm.exact.mixtures.mixture import Mixture
from pyro_lfm.exact.race import Won
from pyro_lfm.families import Bernoulli, Gaussian


class BaselineForm(MixtureForm):
    """``Model(x=Gaussian(D))`` or ``Model(x=Bernoulli(D))``: a mixture of one component, with no label.

    Raises:
        Obstacle: the declaration is another.
    """

    def __init__(self, model: Any, observed: str):
        self.model, self.observed, self.factors = model, observed, None
        self.later, self.classes = {}, 1
        self.components = _component(observed, model.factors[observed])
        self.fixed = self.components.fixed | {"weights"}

    def read(self) -> Mixture:
        return Mixture(torch.ones(1), self.components.read())

    def write(self, parameters: Mixture) -> None:
        self.components.write(parameters.components)

    def start(self, rows: Iterable[Tensor], seed: int, restarts: int) -> Won[Mixture]:
        """Of one component all starts lead to the one maximum."""
        return super().start(rows, seed, 1)

    def distributions(self, x: Tensor) -> dict[str, Distribution]:
        return {}

    def marginals(self, x: Tensor) -> dict[str, Any]:
        return {}


def _component(name: str, factor: Any) -> DeclaredComponents:
    if factor.parents:
        raise Obstacle(
            f"{name} reads {', '.join(factor.parents)}: a closed form without latents needs it alone"
        )
    if type(factor.declaration) is Gaussian:
        return GaussianComponents.alone(name, factor)
    if type(factor.declaration) is Bernoulli:
        return BernoulliComponents.of(name, factor)
    raise Obstacle(
        f"{name} is {factor.describe()}: a closed form without latents needs Gaussian(D) or Bernoulli(D)"
    )
