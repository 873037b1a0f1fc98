"""One run of a guide and of the model at its draws, and what an objective is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from pyro import poutine
from torch import Tensor
from torch.func import functional_call

from pyro_lfm.distributions.scaled_distribution import unmasked
from pyro_lfm.errors import DeclarationError
from pyro_lfm.objectives.bound import Rows, inside, latent_sites, obstacle
from pyro_lfm.objectives.draw_terms import DrawTerms, Sites
from pyro_lfm.objectives.enumeration import Plan
from pyro_lfm.objectives.handlers import HeldParameters, held_draw, with_values

HowKL = Literal["auto", "analytic", "monte-carlo"]


@dataclass(frozen=True, repr=False)
class Run:
    """A trace of the guide, and one of the model at the same draws.

    ``reconstruction``, ``kl``, ``log_p`` and ``log_q`` are expectations under q, one number per row in nats: averaged over
    the draws, weighted by q where a latent is summed out, with the score-function gradient of what is drawn without a
    reparametrization. What is made of them needs to know of none of this.

    Attributes:
        model, guide, args, kwargs: what ran.
        layout: where values, draws and plates stand.
        draws: a context in which the programs are run for as many draws.
        traces: of guide and model.
        q, p: the statements of the latents in guide and model, by name: the distribution under "fn", its draw under
            "value".
        rows: the plate over rows.

    >>> from pyro_lfm import ELBO, MLP, Batch, Gaussian, Guide, Model, StandardNormal
    >>> model = Model(z=StandardNormal(2), x=Gaussian(5, mean=MLP(8)))
    >>> guide = Guide(model, z=Gaussian(network=MLP(8)))
    >>> run = ELBO().run(model, guide, (Batch(torch.zeros(3, 5)),), {})
    >>> run.latents, run.observed, run.reconstruction().shape, run.kl("z").shape
    (['z'], ['x'], torch.Size([3]), torch.Size([3]))
    """

    model: Any
    guide: Any
    args: Any
    kwargs: Any
    layout: Plan
    draws: Callable[[], Any]
    traces: tuple[Any, Any]
    q: Sites
    p: Sites
    rows: Rows

    @classmethod
    def of(
        cls,
        model: Any,
        guide: Any,
        args: Any,
        kwargs: Any,
        layout: Plan,
        draws: Callable[[], Any],
        traces: tuple[Any, Any],
        particles: int,
    ) -> Run:
        """Looks into the traces: guide and model must have the same latents."""
        q, p = (latent_sites(trace) for trace in traces)
        if q.keys() != p.keys():
            raise DeclarationError(
                f"guide and model must have the same latents; the guide has {', '.join(q) or 'none'}, "
                f"the model {', '.join(p) or 'none'}"
            )
        sites = [site for site in traces[1].nodes.values() if site["type"] == "sample"]
        frames = (frame for site in sites for frame in site["cond_indep_stack"])
        plate = next((frame for frame in frames if frame.name == "rows"), None)
        size, total = (1, 1) if plate is None else (plate.size, plate.full_size or plate.size)
        rows = Rows(size, total, layout.nesting, particles, layout.sizes)
        run = cls(model, guide, args, kwargs, layout, draws, traces, q, p, rows)
        if layout.values:
            run = replace(run, rows=replace(rows, log_weights=run._terms.log_values([*layout.values])))
        return run

    # Who is who -----------------------------------------------------------------------------------------------

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
        return [name for name in self.p if not inside(self.p[name])]

    @property
    def drawn(self) -> list[str]:
        """The latents of a row that are drawn, not summed out."""
        return [name for name in self.p if inside(self.p[name]) and name not in self.layout.values]

    @property
    def scored(self) -> list[str]:
        """The latents that are drawn without a reparametrization, or with one of some of their parameters."""
        return [n for n, s in self.q.items() if _is_scored(s["fn"]) and n not in self.layout.values]

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
        """KL(q ‖ p) of a latent, of each row, (B,); of a latent that all rows share a row's N-th part of it.

        Args:
            name: the latent.
            how: "auto" takes the closed form where it is known and valid, "analytic" demands it, "monte-carlo" never does.
        """
        self._check_latent(name)
        # What is summed out is exact as it is: all values, each with its log q − log p.
        if how != "monte-carlo" and name not in self.layout.values:
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
        """E_q of terms of each value, draw and row, added up, (B,), with all of its gradient.

        ∇E_q[f] = E_q[∇f + f ∇log q]. The second part is that of what is drawn without a reparametrization: f is the row's
        own for a latent of a row, less the mean of the row's other draws, or, of a single draw, of the other rows.

        Args:
            terms: as ``by_draw`` has them, each (values or 1, draws or 1, rows or 1).
        """
        rows = self.rows
        every = rows.add_up(terms)
        value = rows.expect(every)
        if not self.scored:
            return value.mean(0)
        cost = every.detach()
        if (weights := rows.weights) is not None:
            cost = weights.detach() * cost.where(weights > 0, cost.new_zeros(()))
        for name in self.scored:
            part = _centred(cost, own=inside(self.q[name]))
            score = (part * self._terms.score(name)).sum(0)
            value = value + score - score.detach()
        return value.mean(0)

    # Draw by draw -----------------------------------------------------------------------------------------------

    def by_draw(self, summed_out: bool = False, scored: bool = False) -> DrawTerms:
        """The terms for each value of what is summed out, each draw and each row, for who takes the expectation himself.

        Args:
            summed_out: whether the caller weighs the values of what is summed out by ``rows.weights``.
            scored: whether the caller adds the gradient of draws without a reparametrization, or takes none.

        Raises:
            DeclarationError: some latent is summed out, or drawn without a reparametrization, and the caller does not say
                that it is taken care of.
        """
        if self.layout.values and not summed_out:
            raise DeclarationError(
                f"{', '.join(self.layout.values)} is summed out, so that terms must be weighted by q: use "
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
            name: site
            for name, site in self.traces[1].nodes.items()
            if site["type"] == "sample" and site["is_observed"]
        }
        return DrawTerms(self.q, self.p, observed, self.rows, getattr(self.guide, "follows_model", False))

    def _check_latent(self, name: str) -> None:
        if name not in self.p:
            raise DeclarationError(f"the latents are {', '.join(self.p)}; got {name!r}")

    # The guide once more, at the same draws ---------------------------------------------------------------------

    def held(self, constant: list[str] | None = None, model_too: bool = False) -> Sites:
        """The guide's distributions with its parameters held; gradients flow through the draws, as the model saw them, alone.

        Args:
            constant: latents whose draws are held too.
            model_too: whether parameters that are the model's as well, where a guide is made of the prior, are held. Their
                share in log q has mean zero, but takes most of the noise out of their share in log p.
        """
        call: Any = self.guide
        if isinstance(self.guide, torch.nn.Module):
            parts = isinstance(self.model, torch.nn.Module) and not model_too
            theirs = set(map(id, self.model.parameters())) if parts else set()
            constants = {n: p.detach() for n, p in self.guide.named_parameters() if id(p) not in theirs}

            def call(*inner: Any, **keywords: Any) -> Any:
                return functional_call(self.guide, constants, inner, keywords)

        known = set(constant or ())
        seen = with_values(
            self.traces[1], lambda site: held_draw(site["value"]) if site["name"] in known else site["value"]
        )
        for name, site in self.q.items():
            for drawn in site.get("auxiliary", ()):
                value = held_draw(drawn["value"]) if name in known else drawn["value"]
                seen.nodes[drawn["name"]] = {**drawn, "value": value}
        with poutine.block(hide_types=["param"]), HeldParameters():
            return self._again(call, seen)

    def at_held_draws(self) -> Sites:
        """The guide's distributions with the draws held; gradients flow to its parameters alone, and through no draw."""
        return self._again(self.guide, with_values(self.traces[0], lambda site: held_draw(site["value"])))

    def _again(self, guide: Any, trace: Any) -> Sites:
        with self.draws():
            again: Any = poutine.trace(poutine.replay(guide, trace=trace))
            return latent_sites(again.get_trace(*self.args, **self.kwargs))

    # Closed forms -----------------------------------------------------------------------------------------------

    def obstacle(self, name: str) -> str | None:
        """Why integrating a latent's KL in closed form would be wrong, if it would."""
        return obstacle(self.model, self.guide, name, list(self.q), list(self.p))

    def closed_form(self, name: str) -> Tensor | None:
        """KL(q ‖ p) of a latent as ``by_draw`` has its terms, where it is known and valid."""
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


def _is_scored(distribution: Any) -> bool:
    return not distribution.has_rsample or getattr(distribution, "partly_reparametrized", False)


def _centred(cost: Tensor, own: bool) -> Tensor:
    """Less the mean of the others, (values, draws, rows): unbiased, as theirs does not depend on a draw's own value.

    Args:
        own: whether the draws are each row's own. What all rows share has other draws, but no other rows.
    """
    dim = 1 if cost.shape[1] > 1 or not own else 2
    count = cost.shape[dim]
    return cost if count == 1 else (cost - cost.mean(dim, keepdim=True)) * (count / (count - 1))


def distribution_name(distribution: Any) -> str:
    distribution = unmasked(distribution)[0]
    while isinstance(distribution, torch.distributions.Independent):
        distribution = distribution.base_dist
    return type(distribution).__name__
