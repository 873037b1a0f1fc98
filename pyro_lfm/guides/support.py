"""Whether a guide's distribution of a latent has the values that the model's has."""

from __future__ import annotations

from typing import Any

from pyro_lfm.distributions.extent import apart, beyond_draws
from pyro_lfm.errors import DeclarationError
from pyro_lfm.variables import Variable


def check_support(name: str, family: str, law: Any, latent: Variable, carried: bool) -> None:
    """Whether the family of a guide's factor serves a latent.

    Mass where the prior has none makes a bound of nothing, and values that q never draws are missing from every estimate of
    log p(x) made with it, which no weight shows.

    Args:
        family: the factor's name. law: its distribution, before it is carried onto the support.
        carried: whether it lives on the reals and is carried onto the support of the latent.

    Raises:
        DeclarationError: the values differ, or the prior has another support than it declares.
    """
    if law.support.is_discrete and not latent.support.is_discrete:
        raise DeclarationError(
            f"{name} takes real values; its guide must have a density, such as Gaussian: {family} puts all its mass on a "
            "few of them"
        )
    if latent.support.is_discrete and not law.support.is_discrete:
        raise DeclarationError(
            f"{name} takes discrete values; its guide must be discrete too, such as Categorical or Bernoulli"
        )
    if latent.fault is not None and beyond_draws(law) is None:
        raise DeclarationError(
            f"{name}: its prior has not the support that its guide would cover: {latent.fault}; Gaussian guides are then "
            "carried onto it"
        )
    wider, narrower, ours, theirs = (
        (False, False, "", "") if carried else apart(law, latent.support, latent.extent)
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
