"""The kind of mixtures: a class c for each row, and x | c Gaussian or Bernoulli."""

from __future__ import annotations

from pyro.distributions.torch_distribution import TorchDistributionMixin as Distribution
from torch import Tensor

from pyro_lfm.closed_form.mixtures.component_kinds import components_of
from pyro_lfm.closed_form.mixtures.declared_mixture import DeclaredMixture, weights_of
from pyro_lfm.closed_form.outline import Outline


class MixtureForm(DeclaredMixture):
    """``Model(c=Categorical(C), x=..., given="c")``.

    Raises:
        Obstacle: the declaration is another.
    """

    parts = frozenset({"label"})
    declarations = "c=Categorical(C) with x=Gaussian(D, mean=Lookup()) or Bernoulli(D, logits=Lookup())"

    def __init__(self, outline: Outline):
        assert outline.label is not None  # for the type checker: it is among the parts
        self.model, self.label, self.observed = outline.model, outline.label, outline.observed
        self.descendants = {self.label: set()}
        self.weights, self.classes = weights_of(outline, self.label), outline.classes
        self.components = components_of(self.observed, outline.factor, self.classes)
        self.fixed = self.components.fixed | ({"weights"} if self.weights.fixed else frozenset())

    def marginals(self, x: Tensor) -> dict[str, Distribution]:
        return {self.label: self.label_given(self.read(), x)}
