"""Checks and defaults of a declared guide before it is built: its factors, their parents and their event shapes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.distributions import constraints

from pyro_lfm.distributions.supports import from_reals
from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.factors import Factor
from pyro_lfm.factors.conditional import check_is_declared
from pyro_lfm.factors.variables import Variable
from pyro_lfm.factors.wiring import with_named
from pyro_lfm.programs.sites import Sites


def check_factors(
    latents: Mapping[str, Variable],
    observed: Mapping[str, Variable],
    factors: Mapping[str, Factor],
    has_joint: bool = False,
) -> None:
    """Checks that there is one factor for each latent, and no other.

    Args:
        latents: those that a joint distribution ``shared=`` does not serve.
        has_joint: whether there is one.
    """
    for name, factor in factors.items():
        if name not in latents:
            what = "is no variable of the model"
            if name in observed:
                what = "is observed (a factor that names its parents and that no given= names is)"
            raise DeclarationError(
                f"a guide serves latents: {name} {what}; the latents are {', '.join(latents)}"
            )
        check_is_declared(name, factor, "a factor such as Gaussian")
    missing = [name for name in latents if name not in factors]
    if missing:
        joint = ""
        if has_joint:
            joint = (
                ", which each row has for itself: shared= serves latents outside `with batch.plate():`. Draw it there if "
                f"all rows share it, or give it a factor, as in {missing[0]}=lfm.Gaussian(network=...)"
            )
        raise DeclarationError(f"the guide has no factor for the latent {', '.join(missing)}{joint}")


def parents_of(name: str, factor: Factor, sites: Sites) -> tuple[str, ...]:
    """The parents of a guide's factor: every observed variable, unless it names its parents."""
    named = with_named(factor.given or (), factor)
    for parent in named:
        if parent not in sites.all or parent == name:
            known = ", ".join(other for other in sites.all if other != name)
            raise DeclarationError(f"{name}: given={parent!r} must be one of {known}")
    if not sites.latents[name].per_row:
        if (factor.reads and not named) or any(sites.all[parent].per_row for parent in named):
            raise DeclarationError(
                f"{name} stands outside the plate over rows: its guide cannot read rows: use Learned(), or name "
                "shared latents in given=; if each row has its own, draw it inside `with batch.plate():`"
            )
        return named
    default = tuple(sites.observed) if factor.reads else ()
    return with_named(default if factor.given is None else factor.given, factor)


def for_latent(name: str, factor: Factor, latent: Variable) -> Factor:
    """A guide's factor with its event shape, that of the latent or of its unconstrained space."""
    if latent.plate is not None:
        plate, size = latent.plate
        raise DeclarationError(
            f"{name} must be drawn in no plate but that of the rows; the program draws it in the plate {plate!r}: leave "
            f"that plate out and make its {size} entries one event, as in dist.Normal(torch.zeros({size}), 1.0).to_event(1)"
        )
    declared = factor.event_shape
    carry = None if latent.support.is_discrete else from_reals(latent.support)
    if carry is not None:
        inner = torch.Size(carry.inverse_shape(latent.shape))
        latent = Variable(name, inner, constraints.independent(constraints.real, len(inner)))
    factor = factor.for_variable(latent)
    if declared is not None and declared != factor.event_shape:
        raise ShapeError(
            f"{name}: the guide's event shape must be {tuple(factor.shape)}; got {tuple(declared)}: leave it out"
        )
    return factor
