"""The wiring of a model: the parents of each factor and the observed variables, inferred from the declarations."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors.conditional import Deterministic
from pyro_lfm.factors.covariate import Covariate
from pyro_lfm.factors.factor import Factor
from pyro_lfm.factors.named_modules import Factors
from pyro_lfm.factors.prior import Prior


def wire(factors: Mapping[str, Factor]) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """The parents of each factor, and the names of the observed factors."""
    open_ended = [name for name, factor in factors.items() if factor.given is None and factor.reads]
    declared = {name: with_named(factor.given or (), factor) for name, factor in factors.items()}
    named = set(itertools.chain.from_iterable(declared.values()))
    for name, factor in factors.items():
        others = ", ".join(other for other in factors if other != name)
        for parameter, parent in factor.named.items():
            if parent not in factors:
                raise DeclarationError(
                    f"{name}.{parameter} must be a module, a factory (in_size, out_size) -> module, Learned, Fixed, PerRow "
                    f"or the name of another factor ({others}); got {parent!r}"
                )
        for parent in factor.given or ():
            if parent not in factors:
                raise DeclarationError(
                    f"{name}: given={parent!r} is no factor of this model; it has {', '.join(factors)}"
                )
    # Raises for a cycle, in which latent and observed factors cannot be told apart.
    in_order(declared)
    leaves = [
        name
        for name in factors
        if declared[name] and name not in named and not isinstance(factors[name], Prior)
    ]
    known = [name for name, factor in factors.items() if isinstance(factor, Covariate)]
    observed = [name for name in factors if name in open_ended or name in leaves or name in known]
    latents = tuple(name for name in factors if name not in observed)
    apart = not named and not open_ended
    if apart and not any(isinstance(factor, Prior) for factor in factors.values()):
        # No factor reads another: a model without latents, such as a baseline of one Gaussian.
        observed, latents = list(factors), ()
    if open_ended and not latents:
        raise DeclarationError(
            "a model needs a latent factor that the observed ones read, as in z=StandardNormal(2)"
        )
    if set(observed) <= set(known):
        raise DeclarationError(
            "a model needs an observed factor that reads the latents, as in x=Gaussian(784, mean=MLP()), or one alone"
        )
    given = {
        name: with_named(latents if name in open_ended else factor.given or (), factor)
        for name, factor in factors.items()
    }
    read = set(itertools.chain.from_iterable(given.values()))
    for name in (*latents, *known):
        if name not in read:
            raise DeclarationError(f"nothing reads {name}: name it in some factor's given=, or leave it out")
    return given, observed


def with_named(given: tuple[str, ...], factor: Factor) -> tuple[str, ...]:
    """The parents that a factor's networks read, then those whose values are its parameters."""
    return tuple(dict.fromkeys((*given, *factor.named.values())))


def reads_of(
    factors: Factors, given: Mapping[str, tuple[str, ...]], order: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """The parents of every variable, in the order in which variables are drawn, parameters with priors first.

    A deterministic factor is no variable: its children read its parents.
    """
    drawn = {name: factors[name].drawn for name in order}
    parents = {f"{n}.{p}": of_factor(n, d.reads) for n in drawn for p, d in drawn[n].items()}
    deterministic = [name for name in drawn if isinstance(factors[name], Deterministic)]
    for name in drawn:
        own = of_factor(name, [p for p, d in drawn[name].items() if d.used])
        declared = [q for p in given[name] for q in (parents[p] if p in deterministic else (p,))]
        parents[name] = tuple(dict.fromkeys((*declared, *own)))
    return {name: read for name, read in parents.items() if name not in deterministic}


def distribution_of(
    factors: Factors,
    given: Mapping[str, tuple[str, ...]],
    name: str,
    values: Mapping[str, Tensor],
    index: Tensor,
) -> Distribution:
    """A factor's distribution, given the values of all variables that it reads."""
    parents = parents_of(factors, given, name, values, index)
    drawn = {p: values[full] for p in factors[name].drawn for full in of_factor(name, [p])}
    distribution: Distribution = factors[name].at(parents, index, drawn)
    return distribution


def parents_of(
    factors: Factors,
    given: Mapping[str, tuple[str, ...]],
    name: str,
    values: Mapping[str, Tensor],
    index: Tensor,
) -> list[Tensor]:
    """The values of a factor's parents. A deterministic parent is computed from its own parents."""
    return [
        values[p] if p in values else factors[p].value(distribution_of(factors, given, p, values, index))
        for p in given[name]
    ]


def of_factor(factor: str, parameters: Iterable[str]) -> tuple[str, ...]:
    """The names of a factor's parameters as latents of the model, as in ``x.weight``."""
    return tuple(f"{factor}.{parameter}" for parameter in parameters)


def in_order(parents: dict[str, tuple[str, ...]]) -> list[str]:
    """The names sorted so that parents come first, otherwise in the order of declaration."""
    try:
        return list(TopologicalSorter(parents).static_order())
    except CycleError as error:
        raise DeclarationError(f"given= makes a cycle: {' -> '.join(error.args[1])}") from None
