"""One trace of the guide and one of the model at its draws, with the expectations that objectives are made of."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, cast

import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor
from torch.func import functional_call

from pyro_lfm.errors import DeclarationError
from pyro_lfm.objectives.draw_terms import DrawTerms
from pyro_lfm.objectives.enumeration import Plan
from pyro_lfm.objectives.handlers import DetachedParameters, detached_draw, with_values
from pyro_lfm.objectives.layout import Layout
from pyro_lfm.objectives.trace_sites import (
    Arguments,
    Keywords,
    PyroProgram,
    Site,
    Sites,
    batch_among,
    distribution_name,
    in_row_plate,
    is_scored,
    latent_sites,
    obstacle,
)

HowKL = Literal["auto", "analytic", "monte-carlo"]


@dataclass(frozen=True, repr=False)
class Run:
    """A trace of the guide, and one of the model at the same draws.

    ``reconstruction``, ``kl``, ``log_p`` and ``log_q`` are expectations under q, one number per row in nats. They are
    averaged over the draws, weighted by q where a latent is summed out, and have the score-function gradient of draws
    without a reparametrization. An objective made of them need not do any of this itself.

    Attributes:
        model, guide, args, kwargs: the programs that ran, and their arguments.
        plan: the latents that are summed out, and the dimensions of values, draws and plates.
        draws: a context in which the programs run for as many draws.
        traces: of guide and model.
        q, p: the statements of the latents in guide and model, by name: the distribution under "fn", its draw under
            "value".
        layout: the layout of all terms, and how they add up.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(5, mean=lfm.MLP(8)))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    >>> run = lfm.ELBO().run(model, guide, (lfm.Batch(torch.zeros(3, 5)),), {})
    >>> run.latents, run.observed, run.reconstruction().shape, run.kl("z").shape
    (['z'], ['x'], torch.Size([3]), torch.Size([3]))
    """

    model: PyroProgram
    guide: PyroProgram
    args: Arguments
    kwargs: Keywords
    plan: Plan
    draws: Callable[[], ExitStack]
    traces: tuple[Trace, Trace]
    q: Sites
    p: Sites
    layout: Layout

    @classmethod
    def of(
        cls,
        model: PyroProgram,
        guide: PyroProgram,
        args: Arguments,
        kwargs: Keywords,
        plan: Plan,
        draws: Callable[[], ExitStack],
        traces: tuple[Trace, Trace],
        particles: int,
    ) -> Run:
        """The run that two traces show.

        Raises:
            DeclarationError: guide and model have different latents.
        """
        q, p = (latent_sites(trace) for trace in traces)
        if q.keys() != p.keys():
            raise DeclarationError(
                f"guide and model must have the same latents; the guide has {', '.join(q) or 'none'}, "
                f"the model {', '.join(p) or 'none'}"
            )
        sites = [cast(Site, site) for site in traces[1].nodes.values() if site["type"] == "sample"]
        frames = (frame for site in sites for frame in site["cond_indep_stack"])
        plate = next((frame for frame in frames if frame.name == "rows"), None)
        layout = Layout.of(plate, batch_among(args, kwargs), plan.nesting, particles, plan.sizes)
        run = cls(model, guide, args, kwargs, plan, draws, traces, q, p, layout)
        if plan.values:
            log_weights = run._terms.log_values([*plan.values])
            run = replace(run, layout=replace(layout, log_weights=log_weights))
        return run

    # The variables ------------------------------------------------------------------------------------------------

    @property
    def latents(self) -> list[str]:
        """The latents, in the order in which the model draws them."""
        return [*self.p]

    @property
    def observed(self) -> list[str]:
        """The observed variables that the model gives a density, and that this batch holds."""
        given = getattr(self.model, "covariates", ())
        sites = self._terms.observed.items()
        return [n for n, s in sites if n not in given and not (s["infer"] or {}).get("_deterministic")]

    @property
    def shared(self) -> list[str]:
        """The latents that stand outside the plate over rows."""
        return [name for name in self.p if not in_row_plate(self.p[name])]

    @property
    def drawn(self) -> list[str]:
        """The latents of a row that are drawn, not summed out."""
        return [name for name in self.p if in_row_plate(self.p[name]) and name not in self.plan.values]

    @property
    def scored(self) -> list[str]:
        """The latents that are drawn without a reparametrization, or with one of some of their parameters."""
        return [n for n, s in self.q.items() if is_scored(s) and n not in self.plan.values]

    # Expectations under q, row by row ---------------------------------------------------------------------------

    def reconstruction(self, *names: str) -> Tensor:
        """E_q[log p(x | z)] of each row, (B,): of the observed variables that are named, or of all."""
        for name in names:
            if name not in self._terms.observed:
                raise DeclarationError(
                    f"reconstruction: the observed variables are {', '.join(self.observed)}; got {name!r}"
                )
        return self.expectation(*(self._terms.log_observed(name) for name in names or self._terms.observed))

    def kl(self, name: str, how: HowKL = "auto") -> Tensor:
        """KL(q ‖ p) of a latent, of each row, (B,). Of a latent that all rows share, each row has the N-th part.

        Args:
            name: the latent.
            how: "auto" takes the closed form where it is known and valid, "analytic" demands it, "monte-carlo" never does.

        Raises:
            DeclarationError: an unknown latent, or no closed form where it is demanded.
        """
        self._check_latent(name)
        # A latent that is summed out is exact already: all values, each with its log q − log p.
        if how != "monte-carlo" and name not in self.plan.values:
            closed = self.closed_form(name)
            if closed is not None:
                return self.expectation(closed)
            if how == "analytic":
                raise DeclarationError(
                    f'kl="analytic": KL(q({name}) ‖ p({name})) {self._without_closed_form(name)}; use kl="auto"'
                )
        return self.expectation(self._terms.log_q(name) - self._terms.log_p(name))

    def log_q(self, name: str) -> Tensor:
        """E_q[log q] of a latent, of each row, (B,)."""
        self._check_latent(name)
        return self.expectation(self._terms.log_q(name))

    def log_p(self, name: str) -> Tensor:
        """E_q[log p] of a latent under its prior, of each row, (B,)."""
        self._check_latent(name)
        return self.expectation(self._terms.log_p(name))

    def expectation(self, *terms: Tensor) -> Tensor:
        """E_q of the sum of terms, (B,), with its whole gradient ∇E_q[f] = E_q[∇f + f ∇log q].

        The second part belongs to latents that are drawn without a reparametrization. There f is the row's own, for a
        latent of a row, less the mean of the row's other draws, or, with a single draw, less the mean of the other rows.

        Args:
            terms: as ``by_draw`` has them, each (values or 1, draws or 1, rows or 1).
        """
        every = self.layout.add_up(terms)
        value = self.layout.expect(every)
        if not self.scored:
            return _mean_of_draws(value)
        cost = every.detach()
        if (weights := self.layout.weights) is not None:
            cost = weights.detach() * cost.where(weights > 0, cost.new_zeros(()))
        for name in self.scored:
            part = self.layout.centred(cost, own=in_row_plate(self.q[name]))
            score = (part * self._terms.score(name)).sum(0)
            value = value + score - score.detach()
        return _mean_of_draws(value)

    # Draw by draw -----------------------------------------------------------------------------------------------

    def by_draw(self, summed_out: bool = False, scored: bool = False) -> DrawTerms:
        """The terms for each value that is summed out, each draw and each row, for callers that average them themselves.

        Args:
            summed_out: the caller weights values that are summed out by ``layout.weights``.
            scored: the caller adds the gradient of draws without a reparametrization, or needs none.

        Raises:
            DeclarationError: a latent is summed out, or drawn without a reparametrization, and the caller does not
                promise to take care of it.
        """
        if self.plan.values and not summed_out:
            raise DeclarationError(
                f"{', '.join(self.plan.values)} is summed out, so that terms must be weighted by q: use "
                'run.reconstruction(), run.kl(name) and run.expectation(term), which do so, or enumerate="never"'
            )
        if self.scored and not scored:
            raise DeclarationError(
                f"{', '.join(self.scored)} is drawn without a reparametrization, so that terms carry only a part of the "
                "gradient: use run.reconstruction(), run.kl(name) and run.expectation(term), which add the rest"
            )
        return self._terms

    @cached_property
    def _terms(self) -> DrawTerms:
        observed = {
            name: cast(Site, site)
            for name, site in self.traces[1].nodes.items()
            if site["type"] == "sample" and site["is_observed"]
        }
        return DrawTerms(self.q, self.p, observed, self.layout, getattr(self.guide, "follows_model", False))

    def _check_latent(self, name: str) -> None:
        if name not in self.p:
            raise DeclarationError(f"the latents are {', '.join(self.p)}; got {name!r}")

    # The guide again, at the same draws -------------------------------------------------------------------------

    def with_parameters_detached(self, constant: Collection[str] = (), model_too: bool = False) -> Sites:
        """The guide's distributions with its parameters detached: gradients flow through the draws alone.

        Args:
            constant: latents whose draws are detached too.
            model_too: whether to detach parameters that model and guide share, where a guide is made of the prior. Their
                share in log q has mean zero, but takes most of the noise out of their share in log p.
        """

        def value(site: Site, name: str) -> Tensor:
            return detached_draw(site["value"]) if name in constant else site["value"]

        seen = with_values(self.traces[1], lambda site: value(site, site["name"]))
        nodes = cast(Sites, seen.nodes)
        for name, site in self.q.items():
            for auxiliary in site.get("auxiliary", ()):
                nodes[auxiliary["name"]] = {**auxiliary, "value": value(auxiliary, name)}
        with poutine.block(hide_types=["param"]), DetachedParameters():
            return self._again(self._guide_at_constants(model_too), seen)

    def _guide_at_constants(self, model_too: bool) -> PyroProgram:
        """The guide with its parameters detached."""
        guide = self.guide
        if not isinstance(guide, torch.nn.Module):
            return guide
        model = None if model_too else self.model
        shared = set(map(id, model.parameters())) if isinstance(model, torch.nn.Module) else set()
        constants = {n: p.detach() for n, p in guide.named_parameters() if id(p) not in shared}

        def at_constants(*args: object, **kwargs: object) -> object:
            return functional_call(guide, constants, args, kwargs)

        return at_constants

    def with_draws_detached(self) -> Sites:
        """The guide's distributions with the draws detached: gradients flow to its parameters alone."""
        return self._again(self.guide, with_values(self.traces[0], lambda site: detached_draw(site["value"])))

    def _again(self, guide: PyroProgram, trace: Trace) -> Sites:
        with self.draws():
            again = poutine.trace(poutine.replay(guide, trace=trace))
            return latent_sites(again.get_trace(*self.args, **self.kwargs))

    # Closed forms -----------------------------------------------------------------------------------------------

    def obstacle(self, name: str) -> str | None:
        """Why the KL of a latent cannot be integrated in closed form, or None where it can."""
        return obstacle(self.model, self.guide, name, list(self.q), list(self.p))

    def closed_form(self, name: str) -> Tensor | None:
        """KL(q ‖ p) of a latent, laid out as the terms of ``by_draw``, or None where no closed form is known and valid."""
        return None if self.obstacle(name) else self._terms.closed_form(name)

    def how(self, name: str) -> str:
        """How ``kl(name)`` is computed, in words."""
        if reason := self.obstacle(name):
            return f"Monte Carlo ({reason})"
        if self._terms.closed_form(name) is None:
            return "Monte Carlo (no closed form for this pair)"
        return "closed form"

    def _without_closed_form(self, name: str) -> str:
        reason = self.obstacle(name)
        return (
            f"of {distribution_name(self.q[name]['fn'])} against {distribution_name(self.p[name]['fn'])} has no closed form"
            f"{f' here: {reason}' if reason else ''}"
        )


def _mean_of_draws(value: Tensor) -> Tensor:
    """The mean over draws, (draws, rows) to (rows,)."""
    return value.squeeze(0) if len(value) == 1 else value.mean(0)
