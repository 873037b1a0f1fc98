"""The families that the components of a mixture may have, and baselines; for the forms of mixtures."""

from __future__ import annotations

from collections.abc import Mapping

from pyro_lfm.closed_form.mixtures.bernoulli_components import BernoulliComponents
from pyro_lfm.closed_form.mixtures.components import AnyComponents
from pyro_lfm.closed_form.mixtures.gaussian_components import GaussianComponents
from pyro_lfm.closed_form.obstacles import Obstacle, family_obstacle
from pyro_lfm.factors import Conditional, Factor
from pyro_lfm.families import Bernoulli, Gaussian

FAMILIES: Mapping[type[Factor], type[GaussianComponents] | type[BernoulliComponents]] = {
    Gaussian: GaussianComponents,
    Bernoulli: BernoulliComponents,
}


def components_of(name: str, factor: Conditional, classes: int) -> AnyComponents:
    """The components p(x | c) of a factor; raises Obstacle where a mixture of them has no closed form."""
    kind = FAMILIES.get(type(factor.declaration))
    if kind is None:
        raise family_obstacle(name, factor, "Gaussian(mean=Lookup()) or Bernoulli(logits=Lookup())")
    return kind.of(name, factor, classes)


def component_alone(name: str, factor: Conditional) -> AnyComponents:
    """The only component p(x) of a factor without latents; raises Obstacle where it has no closed form."""
    if factor.parents:
        raise Obstacle(
            f"{name} reads {', '.join(factor.parents)}: a closed form without latents needs it alone"
        )
    kind = FAMILIES.get(type(factor.declaration))
    if kind is None:
        words = f"{name} is {factor.declaration.describe()}"
        raise Obstacle(f"{words}: a closed form without latents needs Gaussian(D) or Bernoulli(D)")
    return kind.alone(name, factor)
