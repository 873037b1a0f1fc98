"""Discrete latents summed out: E_q(c)[f] = Σ_c q(c | ·) f(c), all values side by side in one run of the programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Delta
from pyro.poutine.messenger import Messenger

from pyro_lfm.distributions.discrete_values import all_values, may_be_summed
from pyro_lfm.distributions.support_bounds import SupportBounds, compare_supports
from pyro_lfm.distributions.support_check import support_fault
from pyro_lfm.errors import DeclarationError
from pyro_lfm.objectives.bound import inside, latent_sites
from pyro_lfm.probes import probing

_MOST = 256  # joint values of all latents that are summed out


@dataclass(frozen=True)
class Plan:
    """How the tensors of a bound are laid out: values of summed latents, draws, plates, from left to right.

    Attributes:
        nesting: how many dimensions the plates of the programs take up; draws stand left of them.
        values: all values (C, *event) of each latent that is summed out, in the order of the guide; the dimension
            of the k-th is −2 − nesting − k.
    """

    nesting: int = 1
    values: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of values of each, as the dimensions stand: the last latent leftmost."""
        return tuple(len(value) for value in reversed(self.values.values()))


class SumOut(Messenger):
    """At the statements of the planned latents: all values, in a dimension of their own, instead of a draw."""

    def __init__(self, plan: Plan):
        super().__init__()
        self.plan = plan

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if msg["name"] in self.plan.values and not msg["is_observed"]:
            values = self.plan.values[msg["name"]]
            right = 1 + self.plan.nesting + list(self.plan.values).index(msg["name"])
            events = values.shape[1:]
            msg["value"] = values.reshape(len(values), *(1,) * right, *events)
            msg["done"] = True


def plan(model: Any, guide: Any, args: Any, kwargs: Any, sum_out: bool, shared: bool = True) -> Plan:
    """Runs the programs once, so that nothing of it remains, and looks at their sites.

    A latent is summed out where the guide's statement says that it may be, it stands in no plate but that of the
    rows, and the joint values of all such latents are few; without ``shared`` only one that stands in that plate.
    """
    modules = [part for part in (model, guide) if isinstance(part, torch.nn.Module)]
    device = next((p.device for module in modules for p in module.parameters()), "cpu")
    with poutine.block(), probing(*modules, device=device):
        q = poutine.trace(guide).get_trace(*args, **kwargs)
        p: Any = poutine.trace(poutine.replay(model, trace=q)).get_trace(*args, **kwargs)
        if not getattr(guide, "follows_model", False):
            _check_supports(latent_sites(q), latent_sites(p))
    frames = [f for t in (q, p) for s in t.nodes.values() for f in s.get("cond_indep_stack", ())]
    nesting = max([-frame.dim for frame in frames if frame.dim is not None], default=0)
    values: dict[str, torch.Tensor] = {}
    joint = 1
    for name, site in latent_sites(q).items() if sum_out else ():
        if not may_be_summed(site["infer"]) or any(f.name != "rows" for f in site["cond_indep_stack"]):
            continue
        if not shared and not inside(site):
            continue
        found = all_values(site["fn"], _MOST // joint)
        if found is not None:
            values[name] = found.to(site["value"].dtype)
            joint *= len(found)
    return Plan(nesting, values)


def _check_supports(q: dict[str, dict[str, Any]], p: dict[str, dict[str, Any]]) -> None:
    """Whether a guide that was written by hand draws what the model gives mass; declared ones are looked at when declared.

    Raises:
        DeclarationError: it draws more, or the prior has another support than it declares.
    """
    for name in q.keys() & p.keys():
        ours, theirs = q[name]["fn"], p[name]["fn"]
        if inside(q[name]) != inside(p[name]):
            place = "inside" if inside(p[name]) else "outside"
            raise DeclarationError(
                f"the guide must draw {name} {place} `with batch.plate():`, as the model does"
            )
        if isinstance(ours, Delta):  # a point, or a function of other draws
            wider = not bool(torch.as_tensor(theirs.support.check(q[name]["value"])).all())
            narrower, own, latent = True, "values", str(theirs.support)
        else:
            wider, narrower, own, latent = compare_supports(
                ours, theirs.support, SupportBounds.of_distribution(theirs)
            )
        if wider:
            raise DeclarationError(
                f"{name}: the guide draws it from {type(ours).__name__}, which takes {own}, the model's prior takes "
                f"{latent}: a guide must not draw what the prior gives no mass; carry its distribution onto the support by "
                "biject_to, or declare the guide with lfm.Guide, which does so"
            )
        fault = None if narrower else support_fault(theirs)
        if fault is not None and support_fault(ours) is None:
            raise DeclarationError(f"{name}: its prior has not the support that the guide covers: {fault}")
