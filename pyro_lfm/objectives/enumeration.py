"""Discrete latents summed out: E_q(c)[f] = Σ_c q(c | ·) f(c), with all values side by side in one run of the programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast
from weakref import WeakKeyDictionary

import torch
from pyro import poutine
from pyro.distributions import Delta
from pyro.poutine.messenger import Messenger

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.discrete_values import all_values, may_be_summed
from pyro_lfm.distributions.support_bounds import SupportBounds, compare_supports
from pyro_lfm.distributions.support_check import support_fault
from pyro_lfm.errors import DeclarationError
from pyro_lfm.guides.any_guide import AnyGuide
from pyro_lfm.objectives.trace_sites import (
    Arguments,
    Keywords,
    PyroProgram,
    Rows,
    Site,
    Sites,
    in_row_plate,
    latent_sites,
)
from pyro_lfm.probes import probing
from pyro_lfm.sources.applied import first_tensor

_MOST = 256  # joint values of all latents that are summed out


@dataclass(frozen=True)
class Plan:
    """Which latents are summed out, and the dimensions of values, draws and plates, from left to right.

    Attributes:
        nesting: the number of dimensions that the programs' plates take up; draws stand left of them.
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
    """Gives each latent that is summed out all its values, in a dimension of their own, instead of a draw."""

    def __init__(self, plan: Plan):
        super().__init__()
        self.values = {
            name: values.reshape(len(values), *(1,) * (1 + plan.nesting + k), *values.shape[1:])
            for k, (name, values) in enumerate(plan.values.items())
        }

    def _pyro_sample(self, msg: Site) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"], msg["done"] = self.values[msg["name"]], True


@dataclass(frozen=True)
class PlanOptions:
    """The part of an objective that decides its plan.

    Attributes:
        sum_out: whether discrete latents are summed out.
        shared: whether latents that all rows share are summed out too.
        vectorised: whether there are several draws, side by side.
    """

    sum_out: bool
    shared: bool
    vectorised: bool


# The plans of guides and models, since making one takes a run of both. They are kept here and not on the objective, which
# is an immutable value, and only while guide and model exist.
_PLANS: WeakKeyDictionary[PyroProgram, WeakKeyDictionary[PyroProgram, dict[tuple[object, ...], Plan]]]
_PLANS = WeakKeyDictionary()


def plan_for(
    model: PyroProgram, guide: PyroProgram, args: Arguments, kwargs: Keywords, options: PlanOptions
) -> Plan:
    """The plan of a guide and a model, made at their first run with rows of these names.

    Raises:
        DeclarationError: the guide does not serve the model.
    """
    plans = _PLANS.setdefault(guide, WeakKeyDictionary()).setdefault(model, {})
    trivial = not options.vectorised and not getattr(guide, "summable", True)
    # The values that are summed out are tensors of the programs' type, on their device.
    first = None if trivial else _first_tensor(model, guide)
    kind = None if first is None else (first.device, first.dtype)
    rows = [names for each in args if (names := _names(each)) is not None]
    key = (options, kind, str(rows))
    if key not in plans:
        if isinstance(guide, AnyGuide):
            guide.check_serves(model)
        plans[key] = Plan() if trivial else _plan(model, guide, args, kwargs, options)
    return plans[key]


def _first_tensor(*programs: PyroProgram) -> torch.Tensor:
    first = first_tensor(*(program for program in programs if isinstance(program, torch.nn.Module)))
    return torch.empty(0) if first is None else first


def _names(rows: Rows) -> list[str] | None:
    return rows.names if isinstance(rows, Batch) else [*rows] if isinstance(rows, Mapping) else None


def _plan(
    model: PyroProgram, guide: PyroProgram, args: Arguments, kwargs: Keywords, options: PlanOptions
) -> Plan:
    """Runs the programs once, without a change of any state, and reads the plan off their sites.

    A latent is summed out if the guide's statement allows it, if it stands in no plate but the one over rows, and if all
    such latents together have few joint values.
    """
    modules = [part for part in (model, guide) if isinstance(part, torch.nn.Module)]
    with poutine.block(), probing(*modules, device=_first_tensor(model, guide).device):
        q = poutine.trace(guide).get_trace(*args, **kwargs)
        p = poutine.trace(poutine.replay(model, trace=q)).get_trace(*args, **kwargs)
        if not getattr(guide, "follows_model", False):
            _check_supports(latent_sites(q), latent_sites(p))
    sites = [cast(Site, site) for trace in (q, p) for site in trace.nodes.values()]
    frames = [frame for site in sites for frame in site.get("cond_indep_stack", ())]
    nesting = max([-frame.dim for frame in frames if frame.dim is not None], default=0)
    values: dict[str, torch.Tensor] = {}
    joint = 1
    for name, site in latent_sites(q).items() if options.sum_out else ():
        if not may_be_summed(site["infer"]) or any(f.name != "rows" for f in site["cond_indep_stack"]):
            continue
        if not options.shared and not in_row_plate(site):
            continue
        support = all_values(site["fn"], _MOST // joint)
        if support is not None:
            values[name] = support.to(site["value"].dtype)
            joint *= len(support)
    return Plan(nesting, values)


def _check_supports(q: Sites, p: Sites) -> None:
    """Whether the draws of a hand-written guide have mass under the model. Declared guides are checked when declared.

    Raises:
        DeclarationError: the guide draws values without mass, or the prior has another support than it declares.
    """
    for name in q.keys() & p.keys():
        ours, theirs = q[name]["fn"], p[name]["fn"]
        if in_row_plate(q[name]) != in_row_plate(p[name]):
            place = "inside" if in_row_plate(p[name]) else "outside"
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
                f"{latent}: a guide must not draw values without mass under the prior; carry its distribution onto the "
                "support by biject_to, or declare the guide with lfm.Guide, which does so"
            )
        fault = None if narrower else support_fault(theirs)
        if fault is not None and support_fault(ours) is None:
            raise DeclarationError(f"{name}: its prior has not the support that the guide covers: {fault}")
