"""The terms of a bound for each value that is summed out, each draw and each row, before any expectation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from pyro_lfm.distributions.discrete_values import has_mass
from pyro_lfm.distributions.kl import kl_closed_form
from pyro_lfm.distributions.scaled_distribution import ScaledDistribution, same_scale, unmasked
from pyro_lfm.errors import DeclarationError
from pyro_lfm.objectives.layout import Layout
from pyro_lfm.objectives.trace_sites import Site, Sites, in_row_plate


@dataclass(frozen=True, repr=False)
class DrawTerms:
    """The terms of one run, each (values or 1, draws or 1, rows or 1).

    A caller that adds them up must weight values that are summed out by q, and add the score-function gradient of draws
    without a reparametrization. ``Run.expectation`` does both.

    Attributes:
        q, p: the statements of the latents in guide and model.
        observed: the observed statements by name.
        layout: how the terms are laid out.
        follows: whether the guide takes masks and scales from its model, as every guide of the library does.
    """

    q: Sites
    p: Sites
    observed: Sites
    layout: Layout
    follows: bool

    def log_likelihood(self, which: Callable[[Site], bool] = lambda _: True) -> list[Tensor]:
        """The term of each observed site for which ``which`` is true."""
        return [self.log_observed(name) for name, site in self.observed.items() if which(site)]

    def log_observed(self, name: str) -> Tensor:
        """log p of an observed variable given the latents."""
        site = self.observed[name]
        return self.layout.reduce(site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"]), site)

    def log_p(self, name: str) -> Tensor:
        """log p of a latent under its prior."""
        site = self.p[name]
        return self.layout.reduce(site["fn"].log_prob(site["value"]), site)

    def log_q(self, name: str, distributions: Sites | None = None) -> Tensor:
        """log q of a latent, masked and scaled as its log p is.

        Args:
            distributions: the guide's statements to take it from, such as those of ``Run.with_parameters_detached``;
                ``q`` by default.
        """
        site = (self.q if distributions is None else distributions)[name]
        counting = self.counting(name)
        value = counting.with_distribution(unmasked(site["fn"])[0], name).log_prob(site["value"])
        term = self.layout.scaled(value, self.p[name])
        for drawn in site.get("auxiliary", ()):
            term = term + self.layout.reduce(drawn["fn"].log_prob(drawn["value"]), drawn)
        return term

    def counting(self, name: str) -> ScaledDistribution:
        """The masks and scales of a latent in the model.

        Raises:
            DeclarationError: a guide that was written by hand has other masks or scales.
        """
        model, jointly = ScaledDistribution.of(self.p[name]), "auxiliary" in self.q[name]
        if self.follows and not jointly:
            return model
        guide = ScaledDistribution.of(self.q[name])
        if not self.follows and not guide.has_same_weights(model):
            raise DeclarationError(
                f"{name} has other masks or scales in the guide ({guide.words()}) than in the model ({model.words()}), so "
                "that log q and log p are not of the same rows: put the model's poutine.mask and poutine.scale around the "
                "guide's statement too, both inside `with batch.plate():`, or declare the guide with lfm.Guide"
            )
        if jointly and not guide.has_same_weights(model):
            raise DeclarationError(
                f"{name} is masked or scaled in the model, and its guide draws it jointly with others, so that its own "
                "log q is not known: give it a factor of its own in lfm.Guide"
            )
        return model

    def log_values(self, names: list[str]) -> Tensor:
        """log q of the joint value of latents that are summed out, −∞ where q gives it no mass."""
        terms = []
        for name in names:
            distribution, value = ScaledDistribution.of(self.q[name]).distribution, self.q[name]["value"]
            log_q = distribution.log_prob(value)
            log_q = log_q.where(has_mass(distribution, value), log_q.new_full((), -torch.inf))
            terms.append(self.layout.plain(log_q, self.q[name]))
        return reduce(torch.add, terms)

    def score(self, name: str) -> Tensor:
        """log q of a latent without a reparametrization: the score-function gradient is that of cost · log q."""
        site = self.q[name]
        return self.layout.plain(
            ScaledDistribution.of(site).distribution.score_parts(site["value"]).score_function, site
        )

    def closed_form(self, name: str) -> Tensor | None:
        """KL(q ‖ p) of a latent; None where no closed form is known."""
        counting = self.counting(name)
        if counting.entries is not None or "auxiliary" in self.q[name]:
            return None
        value = kl_closed_form(unmasked(self.q[name]["fn"])[0], counting.distribution)
        if value is None:
            return None
        if counting.mask is not None:
            value = value.where(counting.mask.to(value.device), value.new_zeros(()))
        return self.layout.scaled(value, self.p[name])

    def own_scale(self) -> float | Tensor:
        """The scale that all statements of a row share, beyond the plate's N / B: a number or (B,).

        Raises:
            DeclarationError: the statements have different scales.
        """
        share = self.layout.size / self.layout.total
        inner = {n: s["scale"] for n, s in (self.p | self.observed).items() if in_row_plate(s)}
        first = next(iter(inner.values()), 1 / share)
        for name, scale in inner.items():
            if not same_scale(first, scale) or (isinstance(scale, Tensor) and scale.dim() > 1):
                raise DeclarationError(
                    f"a bound made of importance weights weighs whole rows; {name} is scaled otherwise than the other "
                    "statements of a row: put one poutine.scale around all of them, or use lfm.ELBO()"
                )
        return first * share
