"""Pyro's automatic guides (``pyro.infer.autoguide``) for latents that all rows share, and their distributions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from operator import attrgetter
from typing import Any, TypeGuard

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoContinuous, AutoDelta, AutoGuide, AutoGuideList, AutoNormal
from pyro.infer.autoguide.initialization import init_to_median, init_to_value
from torch.distributions import Distribution, Transform, biject_to
from torch.distributions.constraints import Constraint
from torch.distributions.transforms import ReshapeTransform

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.kl import gaussian_moments
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.distributions.supports import is_real
from pyro_lfm.errors import DeclarationError
from pyro_lfm.probes import probing
from pyro_lfm.programs.program import ProgramLike
from pyro_lfm.programs.pyro_model import AnyModel

# A class of ``pyro.infer.autoguide``, or a function model -> AutoGuide.
JointGuide = Callable[..., AutoGuide]


def joint_guide(make: JointGuide, model: AnyModel, names: list[str]) -> AutoGuide:
    """Builds the automatic guide of some latents of a model.

    Args:
        make: a class of ``pyro.infer.autoguide``, or a function model -> AutoGuide.
    """
    if not names:
        raise DeclarationError("shared= is given, but the model has no further latent that all rows share")
    a_maker = callable(make) and not isinstance(make, AutoGuide)
    program = poutine.block(model.with_stand_ins(), expose=names)
    guide = make(program, **_start(make, model, names)) if a_maker else None
    if not isinstance(guide, AutoGuide):
        raise DeclarationError(
            "shared must be a class of pyro.infer.autoguide such as AutoMultivariateNormal, or a function model -> "
            f"AutoGuide; got {make!r}"
        )
    return guide


def _start(make: JointGuide, model: AnyModel, names: list[str]) -> dict[str, Any]:
    """The options that start parameters with priors at their points.

    By default Pyro's guides start at a median of prior draws, which for a vague prior may be 0 or infinite.
    """
    points = {name: point.detach() for name in names if (point := model.point(name)) is not None}
    takes = isinstance(make, type) and "init_loc_fn" in inspect.signature(make).parameters
    return {"init_loc_fn": init_to_value(values=points, fallback=init_to_median)} if points and takes else {}


def prototype(model: AnyModel) -> Batch:
    """Two rows drawn from the model, with which an automatic guide creates its parameters."""
    with probing(model):
        rows = model.with_stand_ins().sample(2, seed=0)
    return Batch({name: rows[name] for name in model.observed})


def is_automatic(guide: ProgramLike | None) -> TypeGuard[AutoGuide]:
    """Whether it is one of Pyro's automatic guides."""
    return isinstance(guide, AutoGuide)


def check_shared(guide: ProgramLike | None) -> None:
    """Raises DeclarationError if an automatic guide has per-row latents, whose parameters would belong to one batch."""
    if not is_automatic(guide) or guide.prototype_trace is None:
        return
    sites = dict(guide.prototype_trace.iter_stochastic_nodes())
    for name, site in sites.items():
        if any(frame.name == "rows" for frame in site["cond_indep_stack"]):
            raise DeclarationError(
                f"{type(guide).__name__} cannot serve {name}, which each row has for itself: use lfm.Guide(model, "
                f"{name}=lfm.Gaussian(network=...), shared={type(guide).__name__}) for the latents that rows share"
            )


def automatic_distributions(guide: ProgramLike | None) -> dict[str, Distribution]:
    """The marginal distribution of each latent, if the automatic guide is Gaussian in unconstrained space, else empty."""
    if isinstance(guide, AutoGuideList):
        return {
            name: distribution
            for part in guide
            for name, distribution in automatic_distributions(part).items()
        }
    if not isinstance(guide, AutoGuide) or guide.prototype_trace is None:
        return {}
    sites = dict(guide.prototype_trace.iter_stochastic_nodes())
    if isinstance(guide, AutoDelta):
        return {n: dist.Delta(v, event_dim=sites[n]["fn"].event_dim) for n, v in guide.median().items()}
    marginals: dict[str, Distribution] = {}
    if isinstance(guide, AutoNormal):
        for name, site in sites.items():
            loc, scale = attrgetter(name)(guide.locs), attrgetter(name)(guide.scales)
            marginals[name] = _onto(dist.Normal(loc, scale).to_event(loc.dim()), site["fn"].support, [])
        return marginals
    moments = gaussian_moments(guide.get_posterior()) if isinstance(guide, AutoContinuous) else None
    if moments is None:
        return {}
    start = 0
    for name, site in sites.items():
        shape = biject_to(site["fn"].support).inv(site["value"]).shape
        part = slice(start, start := start + shape.numel())
        if moments.tril is None:
            flat = dist.Normal(moments.loc[part], moments.scale[part]).to_event(1)  # type: ignore[index]
        else:
            # The covariance of these entries, from their rows of L: Σ_kk = L_k L_kᵀ.
            rows = moments.tril[part]
            flat = dist.MultivariateNormal(moments.loc[part], rows @ rows.mT, validate_args=False)
        reshape: list[Transform] = (
            [] if len(shape) == 1 else [ReshapeTransform(torch.Size((shape.numel(),)), shape)]
        )
        marginals[name] = _onto(flat, site["fn"].support, reshape)
    return marginals


def _onto(distribution: Distribution, support: Constraint, reshape: list[Transform]) -> Distribution:
    """The image of a Gaussian on the support of its latent, under the transforms that Pyro's guides use."""
    if is_real(support):
        return Pushforward(distribution, reshape) if reshape else distribution
    return Pushforward(distribution, [*reshape, biject_to(support)], onto=support)
