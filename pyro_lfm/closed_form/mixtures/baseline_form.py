"""The kind of models without latents: one distribution of all rows, the baseline that latents are compared with."""

from __future__ import annotations

from collections.abc import Iterable

from pyro.distributions.torch_distribution import TorchDistributionMixin as Distribution
from torch import Tensor

from pyro_lfm.closed_form.mixtures.component_kinds import component_alone
from pyro_lfm.closed_form.mixtures.declared_mixture import DeclaredMixture
from pyro_lfm.closed_form.outline import Outline
from pyro_lfm.exact.mixtures.mixture import Mixture
from pyro_lfm.exact.race import Won


class BaselineForm(DeclaredMixture):
    """``Model(x=Gaussian(D))`` or ``Model(x=Bernoulli(D))``: a mixture of one component, without a label.

    Raises:
        Obstacle: the declaration is another.
    """

    parts = frozenset[str]()
    declarations = "x=Gaussian(D) or Bernoulli(D)"

    def __init__(self, outline: Outline):
        self.model, self.observed = outline.model, outline.observed
        self.descendants = {}
        self.weights, self.classes = None, 1
        self.components = component_alone(self.observed, outline.factor)
        self.fixed = self.components.fixed | {"weights"}

    def start(self, rows: Iterable[Tensor], seed: int, restarts: int) -> Won[Mixture]:
        """One start: from every start the one maximum is reached."""
        return super().start(rows, seed, 1)

    def marginals(self, x: Tensor) -> dict[str, Distribution]:
        return {}
