"""Bounds on log p(x), and how their gradients are taken."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal
from weakref import WeakKeyDictionary

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO as PyroELBO
from pyro.poutine.messenger import Messenger
from torch.func import functional_call

from pyro_lfm.bounds import Bound, Rows, inside, latent_sites, obstacle
from pyro_lfm.distributions.kl import kl_closed_form
from pyro_lfm.errors import DeclarationError
from pyro_lfm.shapes import number, whole
from pyro_lfm.summation import Plan, SumOut, plan

Weight = float | Callable[[float], float]


class _Detached(Messenger):
    """Parameters declared inside the program count as constants."""

    def _pyro_post_param(self, msg: dict[str, Any]) -> None:
        msg["value"] = msg["value"].detach()


class ELBO(PyroELBO):
    """The evidence lower bound L = E_q[log p(x | z)] − KL(q ‖ p), per row, in nats.

    Serves ``lfm.SVI`` and, being a ``pyro.infer.ELBO``, plain ``pyro.infer.SVI``.

    Args:
        particles: draws of z per row, S ≥ 1, taken together.
        kl: "auto" uses the closed form for every latent that has one, "analytic" demands it, "monte-carlo"
            estimates all from the draws. A closed form is valid for a latent only where its prior reads nothing
            that the guide draws knowing it (a bottom-up guide of a top-down model): such terms are Monte Carlo.
        kl_weight: β ≥ 0, or a schedule: a function of the fraction of the training done, 0 to 1.
        free_bits: nats per latent of a row below which its KL, averaged over the batch, is not pressed further.
        gradient: "reparametrized", or "sticking-the-landing": log q with its parameters held
            (Roeder, Wu and Duvenaud, 2017), which has no variance where q is exact; every KL is then Monte Carlo.
        enumerate: "auto" sums discrete latents out, E_q(c)[f] = Σ_c q(c | ·) f(c), while their joint values are at
            most 256; the programs then run with all values side by side, in new dimensions on the left. It holds for
            declared models and guides, and for programs whose statements of that latent say
            ``infer={"enumerate": "parallel"}``. "never" draws them.

    Other latents without a reparametrization get the score-function gradient.

    Source: Kingma and Welling (2014), equations 3 and 10; free bits: Kingma et al. (2016), appendix C.8.

    >>> from pyro_lfm.families import Gaussian
    >>> from pyro_lfm.guides import Guide
    >>> from pyro_lfm.model import Model
    >>> from pyro_lfm.networks import MLP
    >>> from pyro_lfm.priors import StandardNormal
    >>> model = Model(z=StandardNormal(2), x=Gaussian(5, mean=MLP(8)))
    >>> guide = Guide(model, z=Gaussian(network=MLP(8)))
    >>> ELBO(particles=4).bound(model, guide, torch.zeros(3, 5)).per_row.shape
    torch.Size([3])
    """

    def __init__(
        self,
        particles: int = 1,
        kl: Literal["auto", "analytic", "monte-carlo"] = "auto",
        kl_weight: Weight = 1.0,
        free_bits: float = 0.0,
        gradient: Literal["reparametrized", "sticking-the-landing"] = "reparametrized",
        enumerate: Literal["auto", "never"] = "auto",
    ):
        particles = whole("particles", particles)
        if kl not in ("auto", "analytic", "monte-carlo"):
            raise DeclarationError(f'kl must be "auto", "analytic" or "monte-carlo"; got {kl!r}')
        if gradient not in ("reparametrized", "sticking-the-landing"):
            raise DeclarationError(
                f'gradient must be "reparametrized" or "sticking-the-landing"; got {gradient!r}'
            )
        if enumerate not in ("auto", "never"):
            raise DeclarationError(f'enumerate must be "auto" or "never"; got {enumerate!r}')
        if gradient == "sticking-the-landing" and kl == "analytic":
            raise DeclarationError('kl="analytic" has no draws of log q: use gradient="reparametrized"')
        if not callable(kl_weight):
            kl_weight = number(
                "kl_weight", kl_weight, least=0.0, or_else="or a function of the fraction done"
            )
        free_bits = number("free_bits", free_bits, least=0.0)
        super().__init__(num_particles=particles, vectorize_particles=particles > 1)
        self.particles, self.kl, self.gradient = particles, kl, gradient
        self.kl_weight, self.free_bits, self.enumerate = kl_weight, free_bits, enumerate
        self._plans: WeakKeyDictionary[Any, Plan] = WeakKeyDictionary()
        self.last: Bound | None = None

    def at(self, fraction: float) -> ELBO:
        """This objective at a moment of the training: its schedule replaced by a number."""
        if not callable(self.kl_weight):
            return self
        return self.weighted(number("kl_weight", self.kl_weight(fraction), least=0.0))

    def weighted(self, kl_weight: float | torch.Tensor) -> ELBO:
        """This objective with another weight of the KL, which may be a tensor ()."""
        now = copy.copy(self)
        now._plans = self._plans
        now.kl_weight = kl_weight  # type: ignore[assignment]
        return now

    def __getstate__(self) -> dict[str, Any]:
        # What it remembers of programs and of the last step belongs to this process.
        return {**self.__dict__, "_plans": WeakKeyDictionary(), "last": None}

    # The bound ---------------------------------------------------------------------------------------

    def bound(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Bound:
        """One estimate over a batch, gradients attached.

        Args:
            model, guide: Pyro programs; args and kwargs (a Batch, or its tensors) go to both.
        """
        if callable(self.kl_weight):
            raise DeclarationError(
                "kl_weight is a schedule: fit with lfm.SVI, or take objective.at(fraction)"
            )
        layout = self.plan(model, guide, args, kwargs)
        q, p = self.traces(model, guide, args, kwargs, layout)
        ours, theirs = latent_sites(q), latent_sites(p)
        if ours.keys() != theirs.keys():
            raise DeclarationError(
                f"guide and model must have the same latents; the guide has {', '.join(ours) or 'none'}, "
                f"the model {', '.join(theirs) or 'none'}"
            )
        rows = self._rows(p, ours, layout)
        closed = self._closed_forms(model, guide, ours, theirs, layout)
        held = ours
        if self.gradient == "sticking-the-landing":
            closed = {}
            held = self._held(guide, q, args, kwargs, layout)
        reconstruction = rows.add_up(
            rows.reduce(site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"]), site)
            for site in p.nodes.values()
            if site["type"] == "sample" and site["is_observed"]
        )
        kls: dict[str, torch.Tensor] = {}
        for name in theirs:
            if name in closed:
                term = rows.reduce(closed[name], theirs[name])
            else:
                log_q = rows.reduce(held[name]["fn"].log_prob(held[name]["value"]), ours[name])
                term = log_q - rows.reduce(theirs[name]["fn"].log_prob(theirs[name]["value"]), theirs[name])
            kls[name] = rows.add_up([term])
        return self._bound(rows, reconstruction, kls, ours, layout)

    def _bound(
        self,
        rows: Rows,
        reconstruction_of: torch.Tensor,
        kls_of: dict[str, torch.Tensor],
        sites: dict[str, Any],
        layout: Plan,
    ) -> Bound:
        """The terms of each value of what is summed out, weighted and put together."""
        reconstruction = rows.expect(reconstruction_of)
        kls = {name: rows.expect(kl) for name, kl in kls_of.items()}
        penalty = {name: kl.mean() for name, kl in kls.items()}
        for name in penalty if self.free_bits else ():
            # What all rows share costs each of them next to nothing, and would never be pressed.
            if inside(sites[name]):
                penalty[name] = penalty[name].clamp_min(self.free_bits)
        weight: float = self.kl_weight  # type: ignore[assignment]
        objective = reconstruction.mean() - weight * sum(penalty.values())
        scored = [s for n, s in sites.items() if not s["fn"].has_rsample and n not in layout.values]
        if scored:
            # ∇E_q[f] = E_q[∇f + f ∇log q]: a row's own f for a row's latent, the sum of all for a shared one.
            cost = (reconstruction_of - weight * sum(kls_of.values())).detach()
            if rows.weights is not None:
                cost = rows.weights.detach() * cost
            for site in scored:
                value = rows.plain(site["fn"].log_prob(site["value"]), site)
                part = cost if inside(site) else cost.mean(-1, keepdim=True)
                surrogate = (part * value).sum(0).mean()
                objective = objective + surrogate - surrogate.detach()
        return Bound(
            objective,
            reconstruction.mean(0).detach(),
            {name: kl.mean(0).detach() for name, kl in kls.items()},
            rows.total,
        )

    def _draws(self, layout: Plan) -> ExitStack:
        stack = ExitStack()
        if self.particles > 1:
            stack.enter_context(pyro.plate("particles", self.particles, dim=-1 - layout.nesting))
        return stack

    def traces(
        self, model: Any, guide: Any, args: Any, kwargs: Any, layout: Plan | None = None
    ) -> tuple[Any, Any]:
        """One run of the guide, and one of the model with its values."""
        layout = Plan() if layout is None else layout
        with self._draws(layout):
            q = poutine.trace(SumOut(layout)(guide)).get_trace(*args, **kwargs)
        with self._draws(layout):
            p = poutine.trace(poutine.replay(model, trace=q)).get_trace(*args, **kwargs)
        return q, p

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """What pyro.infer.ELBO asks of its subclasses: one model trace, one guide trace."""
        q, p = self.traces(model, guide, args, kwargs, Plan(self.plan(model, guide, args, kwargs).nesting))
        return p, q

    def plan(self, model: Any, guide: Any, args: Any, kwargs: Any) -> Plan:
        """Where draws stand, left of all plates, and which latents are summed out."""
        if self.particles == 1 and not getattr(guide, "summable", True):
            return Plan()
        if guide not in self._plans:
            self._plans[guide] = plan(model, guide, args, kwargs, self.enumerate == "auto")
        return self._plans[guide]

    def _rows(self, p: Any, q: dict[str, Any], layout: Plan) -> Rows:
        frames = (f for s in p.nodes.values() if s["type"] == "sample" for f in s["cond_indep_stack"])
        found = next((frame for frame in frames if frame.name == "rows"), None)
        size, total = (1, 1) if found is None else (found.size, found.full_size or found.size)
        rows = Rows(size, total, layout.nesting, self.particles, layout.sizes)
        if not layout.values:
            return rows
        log_q = [rows.plain(q[name]["fn"].log_prob(q[name]["value"]), q[name]) for name in layout.values]
        return replace(rows, weights=sum(log_q).exp())  # type: ignore[union-attr]

    def _held(self, guide: Any, trace: Any, args: Any, kwargs: Any, layout: Plan) -> dict[str, Any]:
        """The guide's laws at the same draws, with its parameters held; gradients flow through the draws alone."""
        call: Any = guide
        if isinstance(guide, torch.nn.Module):
            constants = {name: value.detach() for name, value in guide.named_parameters()}

            def call(*inner: Any, **keywords: Any) -> Any:
                return functional_call(guide, constants, inner, keywords)

        with self._draws(layout), poutine.block(hide_types=["param"]), _Detached():
            return latent_sites(poutine.trace(poutine.replay(call, trace=trace)).get_trace(*args, **kwargs))

    # Which KLs are closed form -----------------------------------------------------------------------

    def _closed_forms(
        self, model: Any, guide: Any, q: dict[str, Any], p: dict[str, Any], layout: Plan
    ) -> dict[str, torch.Tensor]:
        if self.kl == "monte-carlo":
            return {}
        found = {}
        for name in p:
            if name in layout.values:  # exact as it is: all values, each with its log q − log p
                continue
            reason = obstacle(model, guide, name, list(q), list(p))
            value = None if reason else kl_closed_form(q[name]["fn"], p[name]["fn"])
            if value is not None:
                found[name] = value
            elif self.kl == "analytic":
                raise DeclarationError(
                    f'kl="analytic": KL(q({name}) ‖ p({name})) of {_law(q[name])} against {_law(p[name])} has no '
                    f'closed form{f" here: {reason}" if reason else ""}; use kl="auto"'
                )
        return found

    # Under plain Pyro: totals over the data, signs of a loss ------------------------------------------

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """−N times the objective per row: Pyro's unit, a scalar with gradients."""
        bound = self.bound(model, guide, *args, **kwargs)
        self.last = replace(bound, objective=bound.objective.detach())
        return -bound.objective * bound.total

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        with torch.no_grad():
            return self.differentiable_loss(model, guide, *args, **kwargs).item()

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()
        return loss.item()

    def __repr__(self) -> str:
        return (
            f"ELBO(particles={self.particles}, kl={self.kl!r}, kl_weight={self.kl_weight!r}, "
            f"free_bits={self.free_bits}, gradient={self.gradient!r}, enumerate={self.enumerate!r})"
        )


def _law(site: dict[str, Any]) -> str:
    law = site["fn"]
    while isinstance(law, torch.distributions.Independent):
        law = law.base_dist
    return type(law).__name__
