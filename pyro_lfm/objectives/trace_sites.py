"""Sample statements of a trace, called sites: their types, and which of them are latents of a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import Distribution, Independent

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.scaled_distribution import unmasked

# A model or a guide: anything that Pyro can trace.
PyroProgram = Callable[..., Any]
# The arguments of a program: a batch, or the tensors that make one.
Rows = Batch | Tensor | Mapping[str, Tensor] | None
Arguments = tuple[Rows, ...]
Keywords = Mapping[str, Rows]
# A sample statement as Pyro's ``Message`` has it: its distribution under "fn", its value under "value", ...
Site = dict[str, Any]
Sites = dict[str, Site]


def batch_among(args: Arguments, kwargs: Keywords) -> Batch | None:
    """The batch among the arguments of a program."""
    return next((a for a in (*args, *kwargs.values()) if isinstance(a, Batch)), None)


def in_row_plate(site: Site) -> bool:
    """Whether a site stands inside the plate over rows, so that every row has a value of its own."""
    return any(frame.name == "rows" for frame in site["cond_indep_stack"])


def latent_sites(trace: Trace) -> Sites:
    """The latents' sites by name.

    Pyro's automatic guides draw auxiliary sites. Their latents are functions of these, with a log_density. log q is the
    sum of all, so that the site of a latent holds the auxiliary sites before it under "auxiliary".
    """
    latents: Sites = {}
    auxiliary: list[Site] = []
    for name, node in trace.nodes.items():
        site = cast(Site, node)
        if site["type"] != "sample" or site["is_observed"] or site_is_subsample(node):
            continue
        if (site.get("infer") or {}).get("is_auxiliary"):
            auxiliary.append(site)
            continue
        latents[name] = {**site, "auxiliary": auxiliary} if auxiliary else site
        auxiliary = []
    return latents


def is_scored(site: Site) -> bool:
    """Whether a latent is drawn without a reparametrization, or with one of some of its parameters only."""
    distribution = site["fn"]
    return not distribution.has_rsample or getattr(distribution, "partly_reparametrized", False)


def distribution_name(distribution: Distribution) -> str:
    """The name of a distribution without its masks and without ``Independent``, for messages."""
    distribution = unmasked(distribution)[0]
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return type(distribution).__name__


def drawn_with_knowledge_of(guide: PyroProgram, name: str, order: list[str]) -> set[str]:
    """The latents that a guide may draw with knowledge of a latent.

    Args:
        order: the guide's latents as it draws them: all that is known of a guide that does not declare its wiring.
    """
    declared = getattr(guide, "latent_descendants", lambda _: None)(name)
    return set(order[order.index(name) + 1 :]) if declared is None else declared


def obstacle(
    model: PyroProgram, guide: PyroProgram, name: str, q_order: list[str], p_order: list[str]
) -> str | None:
    """Why the KL of a latent cannot be integrated in closed form; None where it can.

    E_q[log q(zᵢ | ·) − log p(zᵢ | ·)] may be integrated over zᵢ alone only if p(zᵢ | ·) reads no latent that was
    drawn with knowledge of zᵢ. For programs that do not declare their wiring the order of statements decides.
    """
    parents = getattr(model, "latent_parents", lambda _: None)(name)
    if parents is None:
        parents = set(p_order[: p_order.index(name)])
    both = parents & drawn_with_knowledge_of(guide, name, q_order)
    if not both:
        return None
    return f"its prior may read {', '.join(sorted(both))}, which the guide may draw knowing {name}"
