"""The reason why a model has no closed form, in words that name the factor. ``ClosedForm`` reports it to the user."""

from __future__ import annotations

from pyro_lfm.factors import Conditional, key_of
from pyro_lfm.programs.model import Model


class Obstacle(Exception):
    """Why a closed form cannot serve a model: the factor, what it is, and what is needed."""


def source_obstacle(name: str, factor: Conditional, parameter: str, wanted: str) -> Obstacle:
    """``x.mean is MLP(8): a closed form needs Linear()``."""
    words = factor.declaration.describe_source(parameter)
    return Obstacle(f"{name}.{parameter} is {words}: a closed form needs {wanted}")


def family_obstacle(name: str, factor: Conditional, wanted: str) -> Obstacle:
    """``x is Poisson(rate: Lookup()): a closed form needs Gaussian(mean=Lookup())``."""
    return Obstacle(f"{name} is {factor.declaration.describe()}: a closed form needs {wanted}")


def point_obstacle(model: Model) -> Obstacle | None:
    """The obstacle to variational Bayes: parameters without a prior. None where there are none."""
    trainable = [path for path, _ in model.named_parameters()]
    if not trainable:
        return None
    owners = [name for name in model.order if any(f"factors.{key_of(name)}." in path for path in trainable)]
    subject = f"{', '.join(owners)} {'have' if len(owners) > 1 else 'has'} parameters without a prior"
    words = ", ".join(path.split(".parts.")[-1] for path in trainable)
    return Obstacle(f"{subject} ({words}): variational Bayes needs a prior of each")


def prior_obstacle(model: Model) -> Obstacle:
    """The obstacle to maximum likelihood: parameters with priors."""
    names = ", ".join(model.drawn)
    verb = "have priors" if len(model.drawn) > 1 else "has a prior"
    return Obstacle(f"{names} {verb}: maximum likelihood by a closed form needs parameters without priors")
