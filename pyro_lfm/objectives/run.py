"""One run of a guide and of the model at its draws, and the terms of a bound that stand in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.func import functional_call

from pyro_lfm.bounds import Rows, inside, latent_sites, obstacle
from pyro_lfm.distributions.kl import kl_closed_form
from pyro_lfm.distributions.logs import changed
from pyro_lfm.errors import DeclarationError
from pyro_lfm.summation import Plan

Sites = dict[str, dict[str, Any]]


class RowDraws(pyro.plate):
    """Draws of what each row has for itself; what all rows share is drawn once."""

    def _process_message(self, msg: Any) -> None:
        if inside(msg):
            super()._process_message(msg)


def _held(draw: Tensor) -> Tensor:
    """A draw as a constant, with what it carries."""
    return changed(draw, Tensor.detach)


class HeldDraws(Messenger):
    """Draws count as constants, for whatever reads them too."""

    def _pyro_post_sample(self, msg: dict[str, Any]) -> None:
        if not msg["is_observed"]:
            msg["value"] = _held(msg["value"])


class AtValues(Messenger):
    """Latents have given values, in guide and model, and count as drawn."""

    def __init__(self, values: Mapping[str, Tensor]):
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"] = self.values[msg["name"]]


class _HeldParameters(Messenger):
    """Parameters declared inside the program count as constants."""

    def _pyro_post_param(self, msg: dict[str, Any]) -> None:
        msg["value"] = msg["value"].detach()


def with_values(trace: Any, change: Callable[[dict[str, Any]], Tensor]) -> Any:
    """A trace whose latents have other values, to be replayed."""
    changed = trace.copy()
    for name, site in latent_sites(trace).items():
        changed.nodes[name] = {**site, "value": change(site)}
        for drawn in site.get("auxiliary", ()):
            changed.nodes[drawn["name"]] = {**drawn, "value": change(drawn)}
    return changed


@dataclass(frozen=True, repr=False)
class Run:
    """A trace of the guide, and one of the model at the same draws.

    Attributes:
        model, guide, args, kwargs: what ran.
        layout: where values, draws and plates stand.
        draws: makes the context in which the programs run.
        traces: of the guide and of the model.
        q, p: the latents' sites in the guide and in the model.
        rows: how terms add up, row by row.
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
        found = next((frame for frame in frames if frame.name == "rows"), None)
        size, total = (1, 1) if found is None else (found.size, found.full_size or found.size)
        rows = Rows(size, total, layout.nesting, particles, layout.sizes)
        if layout.values:
            log_q = [rows.plain(q[name]["fn"].log_prob(q[name]["value"]), q[name]) for name in layout.values]
            rows = replace(rows, log_weights=torch.as_tensor(sum(log_q)))
        return cls(model, guide, args, kwargs, layout, draws, traces, q, p, rows)

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

    def score(self, name: str) -> Tensor:
        """What the cost is multiplied by in the gradient of a scored latent: log q, where no draw carries gradients."""
        site = self.q[name]
        return self.rows.plain(site["fn"].score_parts(site["value"]).score_function, site)

    def log_likelihood(self, which: Callable[[dict[str, Any]], bool] = lambda _: True) -> list[Tensor]:
        """The term of each observed site."""
        return [
            self.rows.reduce(site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"]), site)
            for site in self.traces[1].nodes.values()
            if site["type"] == "sample" and site["is_observed"] and which(site)
        ]

    def log_p(self, name: str) -> Tensor:
        site = self.p[name]
        return self.rows.reduce(site["fn"].log_prob(site["value"]), site)

    def log_q(self, name: str, laws: Sites | None = None) -> Tensor:
        """Args: laws: the guide's sites to take it from, such as those of ``held``."""
        site = (self.q if laws is None else laws)[name]
        term = self.rows.reduce(site["fn"].log_prob(site["value"]), self.q[name])
        for drawn in site.get("auxiliary", ()):
            term = term + self.rows.reduce(drawn["fn"].log_prob(drawn["value"]), drawn)
        return term

    # The guide once more, at the same draws ----------------------------------------------------------------

    def held(self, constant: list[str] | None = None, model_too: bool = False) -> Sites:
        """The guide's laws with its parameters held; gradients flow through the draws, as the model saw them, alone.

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
            self.traces[1], lambda site: _held(site["value"]) if site["name"] in known else site["value"]
        )
        for name, site in self.q.items():
            for drawn in site.get("auxiliary", ()):
                value = _held(drawn["value"]) if name in known else drawn["value"]
                seen.nodes[drawn["name"]] = {**drawn, "value": value}
        with poutine.block(hide_types=["param"]), _HeldParameters():
            return self._again(call, seen)

    def at_held_draws(self) -> Sites:
        """The guide's laws with the draws held; gradients flow to its parameters alone, and through no draw."""
        return self._again(self.guide, with_values(self.traces[0], lambda site: _held(site["value"])))

    def _again(self, guide: Any, trace: Any) -> Sites:
        with self.draws():
            again: Any = poutine.trace(poutine.replay(guide, trace=trace))
            return latent_sites(again.get_trace(*self.args, **self.kwargs))

    # Closed forms --------------------------------------------------------------------------------------------

    def obstacle(self, name: str) -> str | None:
        """Why integrating a latent's KL in closed form would be wrong, if it would."""
        return obstacle(self.model, self.guide, name, list(self.q), list(self.p))

    def closed_form(self, name: str) -> Tensor | None:
        """KL(q ‖ p) of a latent, where it is known and valid."""
        if self.obstacle(name):
            return None
        value = kl_closed_form(self.q[name]["fn"], self.p[name]["fn"])
        return None if value is None else self.rows.reduce(value, self.p[name])

    def how(self, name: str) -> str:
        """How a KL is computed where closed forms are used, in words."""
        if reason := self.obstacle(name):
            return f"Monte Carlo ({reason})"
        if kl_closed_form(self.q[name]["fn"], self.p[name]["fn"]) is None:
            return "Monte Carlo (no closed form for this pair)"
        return "closed form"


def _is_scored(law: Any) -> bool:
    return not law.has_rsample or getattr(law, "partly_reparametrized", False)


def law_name(site: dict[str, Any]) -> str:
    law = site["fn"]
    while isinstance(law, torch.distributions.Independent):
        law = law.base_dist
    return type(law).__name__
