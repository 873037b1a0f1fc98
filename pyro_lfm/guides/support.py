"""Checks that a guide's distributions have the support, shape and categories of the model's variables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint

from pyro_lfm.distributions.interface import support_of
from pyro_lfm.distributions.support_bounds import SupportBounds, compare_supports
from pyro_lfm.distributions.support_check import support_fault
from pyro_lfm.distributions.supports import entrywise, plain
from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.factors.variables import Variable
from pyro_lfm.programs.pyro_model import ModelLike
from pyro_lfm.programs.sites import Sites


def check_event(name: str, distribution: Distribution, wanted: torch.Size) -> None:
    """Checks that the distribution of a guide's factor has this event shape."""
    if distribution.event_shape != wanted:
        raise ShapeError(
            f"{name}: the guide's distribution must have event shape {tuple(wanted)}; got "
            f"{tuple(distribution.event_shape)}"
        )


def check_support(
    name: str, family: str, distribution: Distribution, latent: Variable, carried: bool
) -> None:
    """Checks that the family of a guide's factor has the support of a latent.

    If q has mass where the prior has none, the bound is −∞. If q never draws some values, estimates of log p(x) miss
    them, and no importance weight shows it.

    Args:
        name: the latent.
        family: the name of the factor's class.
        distribution: the factor's distribution, before it is transformed onto the support of the latent.
        latent: the variable of the model.
        carried: whether a distribution over the reals is transformed onto the support.

    Raises:
        DeclarationError: the supports differ, or the prior has another support than it declares.
    """
    is_discrete = support_of(distribution).is_discrete
    if is_discrete and not latent.support.is_discrete:
        raise DeclarationError(
            f"{name} takes real values; its guide must have a density, such as Gaussian: {family} puts all its mass on a "
            "few of them"
        )
    if latent.support.is_discrete and not is_discrete:
        raise DeclarationError(
            f"{name} takes discrete values; its guide must be discrete too, such as Categorical or Bernoulli"
        )
    if latent.fault is not None and support_fault(distribution) is None:
        raise DeclarationError(
            f"{name}: its prior has not the support that its guide would cover: {latent.fault}; Gaussian guides are then "
            "carried onto it"
        )
    wider, narrower, ours, theirs = (
        (False, False, "", "") if carried else compare_supports(distribution, latent.support, latent.extent)
    )
    if not (wider or narrower):
        return
    why = (
        "a guide must not draw what the prior gives no mass"
        if wider
        else "a guide must draw all that the prior gives mass: estimates of log p(x) would miss the rest"
    )
    remedy = (
        "use the family of the prior, with as many values"
        if latent.support.is_discrete
        else "use lfm.Gaussian, which is carried onto the support, or the family of the prior"
    )
    raise DeclarationError(f"{name}: {family} takes {ours}, the latent {theirs}: {why}; {remedy}")


def check_variables(latents: Mapping[str, Variable], read: Iterable[Variable], model: ModelLike) -> None:
    """Checks that a guide declared with one model fits another, such as a copy or a model with the same declaration.

    Args:
        latents: the variables that the guide infers.
        read: the observed variables that it requires.
        model: the other model. A plain function, whose variables are unknown, is not checked.

    Raises:
        DeclarationError, ShapeError: the model has other variables.
    """
    theirs: Sites | None = getattr(model, "sites", None)
    if theirs is None or latents is theirs.latents:
        return
    if latents.keys() != theirs.latents.keys():
        raise DeclarationError(
            f"the guide serves {', '.join(latents)}; the model's latents are {', '.join(theirs.latents)}"
        )
    for name, ours in latents.items():
        _check_alike(ours, theirs.latents[name], "infers")
    for ours in read:
        if ours.name not in theirs.observed:
            raise DeclarationError(
                f"the guide reads {ours.name}; the model observes {', '.join(theirs.observed)}"
            )
        _check_alike(ours, theirs.observed[ours.name], "reads")


def _check_alike(ours: Variable, theirs: Variable, does: str) -> None:
    if ours is theirs:
        return
    if ours.shape != theirs.shape or ours.per_row != theirs.per_row:
        raise ShapeError(
            f"the guide {does} {ours.name} of {_event(ours)}; the model's has {_event(theirs)}: declare a guide of this "
            "model"
        )
    if does == "infers" and not _same_kind(ours.support, theirs.support):
        raise DeclarationError(
            f"the guide infers {ours.name} with values in {plain(entrywise(ours.support))}; in the model they are in "
            f"{plain(entrywise(theirs.support))}: declare a guide of this model"
        )
    if ours.categories != theirs.categories:
        raise DeclarationError(
            f"the guide {does} {ours.name} of {ours.categories or 'no'} categories; the model's has "
            f"{theirs.categories or 'none'}: declare a guide of this model"
        )


def _same_kind(one: Constraint, other: Constraint) -> bool:
    """Whether two supports have the same transform from the reals, and for discrete ones the same values.

    Finite bounds of continuous supports are not compared, as they may depend on weights or draws of a program.
    """
    ours, theirs = SupportBounds.of(one), SupportBounds.of(other)
    if ours is None or theirs is None:
        return type(plain(entrywise(one))) is type(plain(entrywise(other)))
    ends = [(ours.low, theirs.low), (ours.high, theirs.high)]
    if ours.discrete != theirs.discrete or any(
        bool(a.isfinite().any() != b.isfinite().any()) for a, b in ends
    ):
        return False
    return not ours.discrete or (ours.within(theirs) and theirs.within(ours))


def _event(variable: Variable) -> str:
    return f"event {tuple(variable.shape)}{'' if variable.per_row else ', shared by all rows'}"
