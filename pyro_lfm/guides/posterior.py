"""The marginal posterior q(z | x) of each latent, computed from a guide. ``Fit.posterior`` uses it."""

from __future__ import annotations

from typing import cast

import pyro
import torch
from pyro import poutine
from torch.distributions import Distribution

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.draw_mixture import mixture_over_draws
from pyro_lfm.guides.any_guide import AnyGuide
from pyro_lfm.guides.automatic import is_automatic
from pyro_lfm.guides.noise_handler import particles_from_noise
from pyro_lfm.runtime import Stream, isolated


def marginals(
    guide: AnyGuide, batch: Batch, latents: list[str], draws: int = 256, seed: int = 0
) -> dict[str, Distribution]:
    """q(z | x) of every latent, batch shape (B,).

    The marginal of a latent that depends on other latents is an equal mixture over ``draws`` draws of those. Where these
    are functions of noise, all rows have the same noise, so that the posterior of a row does not depend on the other rows.
    """
    with isolated(Stream(seed, guide.device), guide.device), torch.no_grad():
        known = guide.known_marginals(batch)
        if all(name in known for name in latents):
            return {name: known[name] for name in latents}
        trace = poutine.trace(guide).get_trace(batch)
        dependent = [n for n in latents if n not in known and _reads_latents(guide, n, latents)]
        if dependent:
            frames = [f for site in trace.nodes.values() for f in site.get("cond_indep_stack", ())]
            outermost = max((-f.dim for f in frames if f.dim is not None), default=0)
            # The outer handler is the last to see a statement, when the plate has given it its shape.
            with particles_from_noise(draws), pyro.plate("particles", draws, dim=-1 - outermost):
                many = poutine.trace(guide).get_trace(batch)
    posterior: dict[str, Distribution] = {}
    for name in latents:
        if name in known:
            posterior[name] = known[name]
        elif name in dependent:
            posterior[name] = mixture_over_draws(cast(Distribution, many.nodes[name]["fn"]))
        else:
            posterior[name] = cast(Distribution, trace.nodes[name]["fn"])
    return posterior


def _reads_latents(guide: AnyGuide, name: str, latents: list[str]) -> bool:
    parents = guide.latent_parents(name)
    if is_automatic(getattr(guide, "program", None)) or name in getattr(guide, "jointly", ()):
        return True
    # Of a hand-written guide only the order is known: the first latent depends on no other.
    return name != latents[0] if parents is None else bool(parents & set(latents))
